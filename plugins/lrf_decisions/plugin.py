"""Registers the judges ``decisions`` and ``systemone``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="decisions",
            target="lrf_decisions.judge:DecisionsJudge",
            settings="lrf_decisions.settings:DecisionsSettings",
            summary="a decision model behind OpenAI's Decisions API: many questions a request, probabilities, no text",
        ),
        ComponentSpec(
            name="systemone",
            target="lrf_decisions.judge:SystemOneJudge",
            settings="lrf_decisions.settings:SystemOneSettings",
            summary="a decision model behind a System One API: many questions a request, probabilities, no text",
        ),
    )
