"""The retriever ``memory``: chunks and their vectors in this process, found by an exact scan."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from lrf.protocols import Embed
from lrf_retrieval.bm25 import Bm25
from lrf_retrieval.retriever import ChunkRetriever
from lrf_retrieval.settings import MemorySettings
from lrf_retrieval.vectors import nearest, unit

if TYPE_CHECKING:
    from lrf.protocols import Vectors


class MemoryStore:
    """Vectors of each sample in an array. See :class:`lrf_retrieval.retriever.Store`."""

    def __init__(self) -> None:
        self._vectors: dict[UUID, Vectors] = {}

    async def add_vectors(self, tenant: UUID, vectors: Vectors) -> None:
        self._vectors[tenant] = await asyncio.to_thread(unit, vectors)

    async def add_terms(self, tenant: UUID, bm25: Bm25) -> None:
        """Nothing to keep: the sums are made of ``bm25`` itself."""

    async def nearest(self, tenant: UUID, queries: Vectors, most: int) -> list[list[int]]:
        chunks = self._vectors[tenant]
        return await asyncio.to_thread(lambda: nearest(unit(queries), chunks, most))

    async def best(self, tenant: UUID, bm25: Bm25, queries: Sequence[str], most: int) -> list[list[int]]:
        return await asyncio.to_thread(bm25.rankings, queries, most)

    def forget(self, tenant: UUID) -> None:
        self._vectors.pop(tenant, None)

    async def drop(self, tenant: UUID) -> None:
        self.forget(tenant)

    async def aclose(self) -> None:
        self._vectors.clear()


class MemoryRetriever(ChunkRetriever):
    """Keeps chunks, vectors and weights of words in memory while a sample is scored."""

    def __init__(self, settings: MemorySettings, embed: Embed | None = None) -> None:
        super().__init__(settings, MemoryStore(), embed)

    def in_memory(self, embed: Embed | None) -> MemoryRetriever:
        """See :class:`lrf.protocols.SearchesInMemory`."""
        return MemoryRetriever(self.settings, embed)
