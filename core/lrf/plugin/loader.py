"""Finds and loads plugins: the entry points of the group ``lrf``.

pluggy's own loader stops at the first plugin that can't be imported, and silently drops a second one of the same name.
Here each is loaded by itself; a broken one is recorded with its reason and left out.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import pluggy

from lrf.errors import PluginError
from lrf.plugin import hookspecs
from lrf.plugin.spec import API_VERSION, KINDS, CommandSpec, ComponentSpec
from lrf.plugin.suggest import did_you_mean

Spec = TypeVar("Spec")

GROUP = "lrf"
DISABLE = "LRF_DISABLE_PLUGINS"
"""The environment variable that leaves plugins out: entry point names with commas between them, or ``*`` for all."""

_REGISTER = {f"lrf_register_{kind}s": kind for kind in KINDS}
_COMMANDS = "lrf_register_commands"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_CAN_NEED = ("judge", "embedder", "retriever")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Registration:
    """A component with the plugin (the name of its entry point) and the distribution that registered it."""

    kind: str
    spec: ComponentSpec
    plugin: str
    package: Package


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that was left out: the name of its entry point, its distribution with version, and the reason."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plugins:
    """All plugins: the loaded ones in ``manager``, what they registered, and those that were left out."""

    manager: pluggy.PluginManager
    registrations: tuple[Registration, ...]
    commands: tuple[CommandSpec, ...]
    broken: tuple[BrokenPlugin, ...]
    disabled: tuple[str, ...]


class _PluginError(Exception):
    """The plugin that is being loaded can't be used; the message says why."""


def load_plugins(environ: Mapping[str, str] = os.environ) -> Plugins:
    """Load every installed plugin that ``LRF_DISABLE_PLUGINS`` doesn't name.

    Raises :class:`lrf.errors.PluginError` when two distributions have an entry point of the same name.
    """
    manager = pluggy.PluginManager("lrf")
    manager.add_hookspecs(hookspecs)
    entry_points, disabled = _entry_points(environ)
    registrations: list[Registration] = []
    commands: dict[str, CommandSpec] = {}
    broken: list[BrokenPlugin] = []
    for entry_point, package in entry_points:
        try:
            specs, more_commands = _load(manager, entry_point, commands)
        except _PluginError as error:
            broken.append(BrokenPlugin(entry_point.name, str(package), " ".join(str(error).split())))
        else:
            registrations += (Registration(kind, spec, entry_point.name, package) for kind, spec in specs)
            commands |= more_commands
    return Plugins(manager, tuple(registrations), tuple(commands.values()), tuple(broken), disabled)


def _entry_points(environ: Mapping[str, str]) -> tuple[list[tuple[metadata.EntryPoint, Package]], tuple[str, ...]]:
    """The entry points to load, sorted by name, and the names of those that are disabled."""
    unwanted = {name.strip() for name in environ.get(DISABLE, "").split(",")}
    wanted: dict[str, tuple[metadata.EntryPoint, Package]] = {}
    disabled: set[str] = set()
    packages: dict[int, Package] = {}  # reading a distribution's metadata is slow, and it may have many entry points
    for entry_point in metadata.entry_points(group=GROUP):
        name, distribution = entry_point.name, entry_point.dist
        if name in unwanted or "*" in unwanted:
            disabled.add(name)
            continue
        if id(distribution) not in packages:
            about: Any = distribution.metadata if distribution else {}
            packages[id(distribution)] = Package(about.get("Name", "unknown"), about.get("Version", "unknown"))
        package = packages[id(distribution)]
        if name in wanted:
            raise PluginError(
                f"two plugins are named {name!r}: one of {wanted[name][1]} and one of {package}; "
                f"uninstall one of the two packages, or set {DISABLE}={name} to do without both"
            )
        wanted[name] = entry_point, package
    return [wanted[name] for name in sorted(wanted)], tuple(sorted(disabled))


def _load(
    manager: pluggy.PluginManager, entry_point: metadata.EntryPoint, taken: Mapping[str, CommandSpec]
) -> tuple[list[tuple[str, ComponentSpec]], dict[str, CommandSpec]]:
    """Import and register one plugin: its components and commands. ``taken`` are the commands of other plugins.

    Raises _PluginError, and leaves nothing of the plugin in the manager.
    """
    try:
        plugin = entry_point.load()
    except (Exception, SystemExit) as error:
        raise _PluginError(f"importing {entry_point.value} failed: {_describe(error)}") from error
    try:
        manager.register(plugin, name=entry_point.name)
        _check_hooks(manager, plugin)
        return _components(manager, plugin), _commands(manager, plugin, taken)
    except _PluginError:
        _forget(manager, plugin, entry_point.name)
        raise
    except (Exception, SystemExit) as error:
        _forget(manager, plugin, entry_point.name)
        raise _PluginError(_describe(error)) from error


def _forget(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    if manager.get_plugin(name) is plugin:
        manager.unregister(plugin, name)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _own_hookimpls(manager: pluggy.PluginManager, plugin: object) -> Iterable[tuple[str, pluggy.HookImpl]]:
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin:
                yield caller.name, implementation


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    known = [name for name in dir(hookspecs) if name.startswith("lrf_")]
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        misspelt = [name for name, _ in _own_hookimpls(manager, plugin) if name not in known]
        name = misspelt[0] if misspelt else ""
        raise _PluginError(f"unknown hook {name}; hooks: {', '.join(known)}{did_you_mean(name, known)}") from error
    for name, implementation in _own_hookimpls(manager, plugin):
        function = implementation.function
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise _PluginError(
                f"{name} is a coroutine function; hooks are called without await: write it with plain def"
            )
        if name in (*_REGISTER, _COMMANDS) and (implementation.hookwrapper or implementation.wrapper):
            raise _PluginError(f"{name} is a wrapper; a plugin registers its own components only")
    for name in known:
        unmarked = getattr(plugin, name, None)
        if inspect.isroutine(unmarked) and not hasattr(unmarked, "lrf_impl"):
            raise _PluginError(f"{name} is not marked as a hook; put @lrf.hookimpl above it")


def _components(manager: pluggy.PluginManager, plugin: object) -> list[tuple[str, ComponentSpec]]:
    components: dict[tuple[str, str], ComponentSpec] = {}
    for hook, implementation in _own_hookimpls(manager, plugin):
        if hook not in _REGISTER:
            continue
        kind = _REGISTER[hook]
        for spec in _returned(hook, implementation, ComponentSpec):
            _check_spec(hook, spec)
            if (kind, spec.name) in components:
                raise _PluginError(f"{hook} registers {spec.name!r} twice")
            components[kind, spec.name] = spec
    return [(kind, spec) for (kind, _), spec in components.items()]


def _commands(
    manager: pluggy.PluginManager, plugin: object, taken: Mapping[str, CommandSpec]
) -> dict[str, CommandSpec]:
    commands: dict[str, CommandSpec] = {}
    for hook, implementation in _own_hookimpls(manager, plugin):
        if hook != _COMMANDS:
            continue
        for spec in _returned(hook, implementation, CommandSpec):
            _check_command(hook, spec)
            if spec.name in taken or spec.name in commands:
                raise _PluginError(f"{hook} registers {spec.name!r}, which is a command already")
            commands[spec.name] = spec
    return commands


def _returned(hook: str, implementation: pluggy.HookImpl, kind: type[Spec]) -> Iterator[Spec]:
    """What a registering hook returned, one after another."""
    specs = implementation.function()
    if not isinstance(specs, Iterable):
        raise _PluginError(f"{hook} returned {type(specs).__name__}; it must return a list of {kind.__name__}")
    for spec in specs:
        if not isinstance(spec, kind):
            raise _PluginError(f"{hook} returned a {type(spec).__name__} where a {kind.__name__} is expected")
        yield spec


def _check_command(hook: str, spec: CommandSpec) -> None:
    def wrong(field: str, allowed: str) -> _PluginError:
        return _PluginError(f"{hook}: command {spec.name!r}: {field} is {getattr(spec, field)!r}; it must be {allowed}")

    if not isinstance(spec.name, str) or not _COMMAND_NAME.fullmatch(spec.name):
        raise wrong("name", "small letters, digits and '-'")
    if not isinstance(spec.target, str) or not _REFERENCE.fullmatch(spec.target):
        raise wrong("target", "'package.module:name'")
    if not isinstance(spec.summary, str) or not spec.summary.strip():
        raise wrong("summary", "a line of text")
    if not (spec.extra is None or isinstance(spec.extra, str)):
        raise wrong("extra", "the name of an extra, or None")


def _check_spec(hook: str, spec: ComponentSpec) -> None:
    def wrong(field: str, allowed: str) -> _PluginError:
        return _PluginError(
            f"{hook}: component {spec.name!r}: {field} is {getattr(spec, field)!r}; it must be {allowed}"
        )

    if spec.api != API_VERSION:
        raise _PluginError(
            f"{hook}: component {spec.name!r} was written for version {spec.api} of lrf's plugin interface; "
            f"this lrf has version {API_VERSION}: install a matching release of the plugin or of lrf"
        )
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise wrong("name", "letters, digits, '.', '_' and '-'")
    for field in ("target", "settings"):
        value = getattr(spec, field)
        if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            raise wrong(field, "'package.module:Name'")
    if not isinstance(spec.summary, str) or not spec.summary.strip():
        raise wrong("summary", "a line of text")
    if not (spec.extra is None or isinstance(spec.extra, str)):
        raise wrong("extra", "the name of an extra, or None")
    if not isinstance(spec.distribution, str):
        raise wrong("distribution", "the name of a distribution")
    if not isinstance(spec.needs, tuple) or not set(spec.needs) <= set(_CAN_NEED):
        raise wrong("needs", f"a tuple of {', '.join(_CAN_NEED)}")
