"""Registers the judge and the embedder ``glm``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="glm",
        target="lrf_glm.judge:GLMJudge",
        settings="lrf_glm.settings:GLMJudgeSettings",
        summary="GLM models of Zhipu AI or Z.ai",
    )


@hookimpl
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="glm",
        target="lrf_glm.embedder:GLMEmbedder",
        settings="lrf_glm.settings:GLMEmbedderSettings",
        summary="embedding models of Zhipu AI or Z.ai",
    )
