"""Registers the judge and the sampler ``transformers``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="transformers",
            target="lrf_transformers.judge:TransformersJudge",
            settings="lrf_transformers.settings:TransformersSettings",
            summary="any Hugging Face causal language model, on this machine, with expected ratings",
            extra="transformers",
            own_process=True,
        ),
    )


@hookimpl
def lrf_register_samplers() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="transformers",
            target="lrf_transformers.sampler:TransformersSampler",
            settings="lrf_transformers.sampler_settings:TransformersSamplerSettings",
            summary="any Hugging Face causal language model, on this machine, with a seed a candidate",
            extra="transformers",
            own_process=True,
        ),
    )
