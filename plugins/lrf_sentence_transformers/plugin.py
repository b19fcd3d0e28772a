"""Registers the embedder ``sentence-transformers``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="sentence-transformers",
        target="lrf_sentence_transformers.embedder:SentenceTransformersEmbedder",
        settings="lrf_sentence_transformers.settings:SentenceTransformersSettings",
        summary="embeddings by any sentence-transformers model, in this process",
        extra="sentence-transformers",
    )
