"""Registers the retriever ``qdrant``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_retrievers() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="qdrant",
        target="lrf_qdrant.retriever:QdrantRetriever",
        settings="lrf_qdrant.settings:QdrantSettings",
        summary="chunks by embeddings, by words (BM25) or by both, in Qdrant (embedded or on a server)",
        needs=("embedder",),
    )
