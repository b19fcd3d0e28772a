"""The components of the installed plugins by kind and name, and how their classes are imported."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lrf.errors import PluginError
from lrf.plugin.loader import BrokenPlugin, Package, Plugins, Registration, load_plugins
from lrf.plugin.spec import KINDS, CommandSpec, ComponentSpec
from lrf.plugin.suggest import did_you_mean, near

if TYPE_CHECKING:
    import pluggy

    from lrf.settings import Settings


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name that several plugins registered for the same kind of component."""

    kind: str
    name: str
    registrations: tuple[Registration, ...]

    def __str__(self) -> str:
        owners = " and ".join(f"{r.package} (plugin {r.plugin!r})" for r in self.registrations)
        return f"the {self.kind} {self.name!r} is registered by {owners}"


class Catalog:
    """The components of all plugins that could be loaded.

    ``broken`` and ``disabled`` are the plugins that were left out, ``conflicts`` the names that several plugins
    registered, ``commands`` the commands by name, and ``plugin_manager`` calls the hooks of a run's life.
    """

    def __init__(self, plugins: Plugins) -> None:
        self.plugin_manager: pluggy.PluginManager = plugins.manager
        self.broken: tuple[BrokenPlugin, ...] = plugins.broken
        self.disabled: tuple[str, ...] = plugins.disabled
        self.commands: dict[str, CommandSpec] = {spec.name: spec for spec in plugins.commands}
        self.registrations: tuple[Registration, ...] = tuple(
            sorted(plugins.registrations, key=lambda r: (KINDS.index(r.kind), r.spec.name, r.package.name))
        )
        self._by_name: dict[tuple[str, str], tuple[Registration, ...]] = {}
        for r in self.registrations:
            self._by_name[r.kind, r.spec.name] = (*self._by_name.get((r.kind, r.spec.name), ()), r)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(Conflict(kind, name, rs) for (kind, name), rs in self._by_name.items() if len(rs) > 1)

    def specs(self, kind: str) -> list[ComponentSpec]:
        """The components of a kind, sorted by name. Names in conflict are left out."""
        return [rs[0].spec for (k, _), rs in self._by_name.items() if k == kind and len(rs) == 1]

    def find(self, kind: str, name: str) -> ComponentSpec:
        """The component of this kind and name.

        Raises :class:`lrf.errors.PluginError` with the names that exist, the likeliest one, and the broken or disabled
        plugins that may have it.
        """
        registrations = self._by_name.get((kind, name), ())
        if len(registrations) == 1:
            return registrations[0].spec
        if registrations:
            raise PluginError(
                f"{Conflict(kind, name, registrations)}; uninstall one of them, or disable one of the plugins"
            )
        names = [spec.name for spec in self.specs(kind)]
        available = f"available: {', '.join(names)}" if names else f"no {kind} is installed"
        raise PluginError(f"unknown {kind} {name!r}; {available}{did_you_mean(name, names)}{self._left_out(name)}")

    def package_of(self, spec: ComponentSpec) -> Package:
        """The distribution that registered the component. Raises KeyError for a spec that is not of this catalog."""
        for r in self.registrations:
            if r.spec is spec or r.spec == spec:
                return r.package
        raise KeyError(spec.name)

    def _left_out(self, name: str) -> str:
        """The end of a message: plugins that were left out and may have the name."""
        text = ""
        if self.broken:
            likely = near(name, (b.name for b in self.broken))
            shown = [b for b in self.broken if b.name == likely] or list(self.broken[:3])
            listed = "; ".join(f"{b.name!r} of {b.distribution} ({b.reason})" for b in shown)
            text += f"; a broken plugin may be the one that has it: {listed}; `lrf plugins` lists all"
        if self.disabled:
            text += f"; disabled by LRF_DISABLE_PLUGINS: {_listed(self.disabled)}"
        return text


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


@cache
def load_catalog() -> Catalog:
    """The catalog of this environment; made once in a process."""
    return Catalog(load_plugins())


def load_target(spec: ComponentSpec | CommandSpec) -> Any:
    """The component's class, or the command.

    Raises :class:`lrf.errors.PluginError`, with the extra to install if that may help.
    """
    return _resolve(spec, spec.target)


def load_settings(spec: ComponentSpec) -> type[Settings]:
    """The class of the component's settings. Raises :class:`lrf.errors.PluginError`."""
    from lrf.settings import Settings

    model = _resolve(spec, spec.settings)
    if not (isinstance(model, type) and issubclass(model, Settings)):
        raise PluginError(f"{spec.name}: its settings, {spec.settings}, are no subclass of lrf.Settings")
    return model


def _resolve(spec: ComponentSpec | CommandSpec, reference: str) -> Any:
    module, _, name = reference.partition(":")
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except ImportError as error:
        advice = f"; pip install '{spec.distribution}[{spec.extra}]'" if spec.extra else ""
        raise PluginError(f"{spec.name} can't be used here: {error}{advice}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{spec.name}: loading {reference} failed: {type(error).__name__}: {error}") from error
    return target
