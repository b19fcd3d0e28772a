"""Registers the judge, the embedder and the sampler ``openai``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="openai",
        target="lrf_openai.judge:OpenAIJudge",
        settings="lrf_openai.settings:OpenAIJudgeSettings",
        summary="chat completions of OpenAI or any compatible server",
    )


@hookimpl
def lrf_register_samplers() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="openai",
        target="lrf_openai.sampler:OpenAISampler",
        settings="lrf_openai.settings:OpenAISamplerSettings",
        summary="chat completions of OpenAI or any compatible server, several in a request if the server can",
    )


@hookimpl
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="openai",
        target="lrf_openai.embedder:OpenAIEmbedder",
        settings="lrf_openai.settings:OpenAIEmbedderSettings",
        summary="embeddings of OpenAI or any compatible server",
    )
