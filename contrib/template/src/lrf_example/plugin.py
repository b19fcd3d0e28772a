"""Tells lrf what this package has."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="conciseness",
            target="lrf_example.conciseness:Conciseness",
            settings="lrf_example.settings:ConcisenessSettings",
            summary="whether the answer says what it has to in few words",
            distribution="lrf-example",
            needs=("judge",),
        ),
    )
