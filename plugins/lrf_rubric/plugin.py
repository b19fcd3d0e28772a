"""Registers the dimension ``rubric``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="rubric",
            target="lrf_rubric.dimension:Rubric",
            settings="lrf_rubric.settings:RubricSettings",
            summary="A list of what an answer must have and must not have, with weights: in YAML, no code",
            needs=("judge", "retriever"),
        ),
    )
