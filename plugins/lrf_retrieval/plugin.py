"""Registers the retrievers ``memory`` and ``qdrant``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_retrievers() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        name="memory",
        target="lrf_retrieval.memory:MemoryRetriever",
        settings="lrf_retrieval.settings:MemorySettings",
        summary="chunks by embeddings, by words (BM25) or by both, in this process's memory",
        needs=("embedder",),
    )
    yield ComponentSpec(
        name="qdrant",
        target="lrf_retrieval.qdrant.retriever:QdrantRetriever",
        settings="lrf_retrieval.settings:QdrantSettings",
        summary="the same chunks, kept in Qdrant: in a folder or on a server",
        extra="qdrant",
        needs=("embedder",),
    )
