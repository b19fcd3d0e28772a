"""Tells lrf what this package has."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_observers() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="opentelemetry",
            target="lrf_opentelemetry.observer:OpenTelemetryObserver",
            settings="lrf_opentelemetry.settings:OpenTelemetrySettings",
            summary="a span for each call and an event for each rating, by OpenTelemetry",
            distribution="lrf-opentelemetry",
        ),
    )
