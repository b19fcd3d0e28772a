"""Registers the executor."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_executors() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="ray",
            target="lrf_ray.executor:RayExecutor",
            settings="lrf_ray.settings:RaySettings",
            summary="workers on the machines of a Ray cluster, or on this one",
            extra="ray",
        ),
    )
