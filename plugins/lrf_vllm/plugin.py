"""Registers what runs on vLLM: behind a server (``vllm``), and without one (``vllm_engine``)."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="vllm",
        target="lrf_vllm.judge:VLLMJudge",
        settings="lrf_vllm.settings:VLLMSettings",
        summary="a vLLM server, with expected ratings from label probabilities",
    )
    yield ComponentSpec(
        name="vllm_engine",
        target="lrf_vllm.engine_judge:VLLMEngineJudge",
        settings="lrf_vllm.settings:VLLMEngineSettings",
        summary="vLLM on this machine without a server, with expected ratings from label probabilities",
        extra="vllm",
        own_process=True,
    )


@hookimpl
def lrf_register_samplers() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="vllm_engine",
        target="lrf_vllm.sampler:VLLMEngineSampler",
        settings="lrf_vllm.settings:VLLMSamplerSettings",
        summary="vLLM on this machine without a server, with a seed a candidate",
        extra="vllm",
        own_process=True,
    )
