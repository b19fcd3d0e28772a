"""Registers the judge."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="anthropic",
            target="lrf_anthropic.judge:AnthropicJudge",
            settings="lrf_anthropic.settings:AnthropicJudgeSettings",
            summary="Claude by Anthropic's Messages API",
            distribution="lrf-anthropic",
        ),
    )
