"""Registers the dimension ``rubric`` and the command ``lrf rubric``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import CommandSpec, ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="rubric",
            target="lrf_rubric.dimension:Rubric",
            settings="lrf_rubric.settings:RubricSettings",
            summary="a list of what an answer must have and must not have, with weights: in YAML, no code",
            needs=("judge", "retriever"),
        ),
    )


@hookimpl
def lrf_register_commands() -> Iterable[CommandSpec]:
    return (
        CommandSpec(
            name="rubric", target="lrf_rubric.draft:rubric", summary="Have a judge draft a rubric for a person to edit."
        ),
    )
