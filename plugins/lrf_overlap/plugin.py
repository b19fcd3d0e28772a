"""Registers the judge ``overlap``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="overlap",
            target="lrf_overlap.judge:Overlap",
            settings="lrf_overlap.settings:OverlapSettings",
            summary="verdicts without a model: are a statement's numbers, dates, names and negations in its evidence?",
        ),
    )
