"""A check of plugin modules, to be called from their own tests."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import click
import pluggy

from lrf.plugin import hookspecs
from lrf.plugin.spec import API_VERSION, KINDS, ComponentSpec
from lrf.settings import Settings
from lrf.testing.require import must

_METHODS: Mapping[str, tuple[str, ...]] = {
    "source": ("read",),
    "sampler": ("identity", "capabilities", "per_call", "max_concurrency", "request_timeout_s", "sample", "aclose"),
    "judge": ("identity", "capabilities", "max_concurrency", "request_timeout_s", "complete", "aclose"),
    "embedder": ("identity", "batch_size", "max_concurrency", "embed", "aclose"),
    "retriever": ("index", "aclose"),
    "dimension": ("score",),
    "aggregator": ("aggregate",),
    "pairing": ("pair",),
    "trainer": ("train",),
    "launcher": ("plan",),
    "observer": ("close",),
    "executor": ("place",),
}
_HEAVY = ("datasets", "numpy", "openai", "pyarrow", "pydantic", "structlog", "torch", "transformers", "vllm")


def check_plugin(module: str) -> None:
    """A plugin module imports nothing heavy, and everything it registers can be imported and set up.

    ``module`` is what the entry point names, such as ``"lrf_aggregators.plugin"``. It is imported in a process of its
    own first. Settings must have a description for every field; classes the members that their kind asks for.
    """
    loaded = _modules_after_import(module)
    heavy = [name for name in _HEAVY if name in loaded]
    must(not heavy, f"importing {module} also imports {', '.join(heavy)}; a registration should only have strings")
    manager = pluggy.PluginManager("lrf")
    manager.add_hookspecs(hookspecs)
    manager.register(importlib.import_module(module))
    manager.check_pending()
    for kind in KINDS:
        for registered in getattr(manager.hook, f"lrf_register_{kind}s")():
            for spec in registered:
                _check_spec(kind, spec)
    for commands in manager.hook.lrf_register_commands():
        for command in commands:
            loaded_command = _load(command.target, f"the command {command.name!r}")
            must(isinstance(loaded_command, click.Command), f"{command.target} is no click.Command")


def _modules_after_import(module: str) -> set[str]:
    code = f"import sys; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # noqa: S603 - our own code
    must(done.returncode == 0, f"{module} can't be imported: {done.stderr.strip()[-500:]}")
    return set(done.stdout.split())


def _check_spec(kind: str, spec: ComponentSpec) -> None:
    must(isinstance(spec, ComponentSpec), f"lrf_register_{kind}s gave a {type(spec).__name__}, no ComponentSpec")
    what = f"the {kind} {spec.name!r}"
    must(spec.api == API_VERSION, f"{what} is for version {spec.api} of the plugin interface, not {API_VERSION}")
    must(bool(spec.summary.strip()), f"{what} has no summary")
    component = _load(spec.target, what)
    for member in _METHODS[kind]:
        must(hasattr(component, member), f"{what}: {spec.target} has no {member}; see lrf.protocols")
    if kind == "dimension":
        must(inspect.iscoroutinefunction(component.score), f"{what}: score must be a coroutine function")
    settings = _load(spec.settings, what)
    must(isinstance(settings, type) and issubclass(settings, Settings), f"{what}: {spec.settings} is no lrf.Settings")
    for name, field in settings.model_fields.items():
        must(bool(field.description), f"{what}: the setting {name!r} has no description")
    settings.model_json_schema()


def _load(target: str, what: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AssertionError(f"{what}: {target} can't be imported: {error}") from error
