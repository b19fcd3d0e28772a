"""Registers the judge ``vllm``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.hookspecs import hookimpl
from lrf.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="vllm",
        target="lrf_vllm.judge:VLLMJudge",
        settings="lrf_vllm.settings:VLLMSettings",
        summary="a vLLM server, with expected ratings from label probabilities",
    )
