"""The retriever ``qdrant``, and its store: a Qdrant used from one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from lrf.protocols import Embed
from lrf_retrieval.bm25 import Bm25
from lrf_retrieval.memory import MemoryRetriever, MemoryStore
from lrf_retrieval.qdrant.spaces import Lexical, dense
from lrf_retrieval.qdrant.store import Collections
from lrf_retrieval.retriever import ChunkRetriever
from lrf_retrieval.settings import MemorySettings, QdrantSettings

if TYPE_CHECKING:
    from lrf.protocols import Vectors

T = TypeVar("T")


class QdrantStore:
    """Vectors in Qdrant. Its local mode blocks and takes one thread at a time, so one thread makes all requests.

    A server adds up the weights of words, too; the local mode would take 20 ms a query for it, in Python, so there they
    are added up as in memory.
    """

    def __init__(self, settings: QdrantSettings) -> None:
        if settings.mode != "lexical" or settings.url is not None:
            import qdrant_client  # noqa: F401  (takes half a second, so it comes before any call)
        self._on_server = settings.url is not None
        self.collections = Collections(settings)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-qdrant")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called in Qdrant's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def add_vectors(self, tenant: UUID, vectors: Vectors) -> None:
        await self.run(lambda: self.collections.add(tenant, dense(vectors)))

    async def add_terms(self, tenant: UUID, bm25: Bm25) -> None:
        if self._on_server:
            await self.run(lambda: self.collections.add(tenant, Lexical(bm25.documents())))

    async def nearest(self, tenant: UUID, queries: Vectors, most: int) -> list[list[int]]:
        return await self.run(lambda: self.collections.search(tenant, dense(queries), most))

    async def best(self, tenant: UUID, bm25: Bm25, queries: Sequence[str], most: int) -> list[list[int]]:
        if not self._on_server:
            return await asyncio.to_thread(bm25.rankings, queries, most)

        def search() -> list[list[int]]:
            weighed = [bm25.query(query) for query in queries]
            known = [i for i, (numbers, _) in enumerate(weighed) if numbers]
            rankings: list[list[int]] = [[] for _ in queries]
            answers = self.collections.search(tenant, Lexical([weighed[i] for i in known]), most)
            for i, numbers in zip(known, answers, strict=True):
                rankings[i] = numbers
            return rankings

        return await self.run(search)

    def forget(self, tenant: UUID) -> None:
        self._thread.submit(self.collections.drop, tenant)  # in the same thread, hence after its other work

    async def drop(self, tenant: UUID) -> None:
        await self.run(lambda: self.collections.drop(tenant))

    async def aclose(self) -> None:
        await self.run(self.collections.close)
        self._thread.shutdown(wait=False)


class QdrantRetriever(ChunkRetriever):
    """Keeps vectors in Qdrant while a sample is scored; without ``path`` and ``url`` in memory, with no Qdrant."""

    def __init__(self, settings: QdrantSettings, embed: Embed | None = None) -> None:
        super().__init__(settings, MemoryStore() if settings.in_memory else QdrantStore(settings), embed)

    def in_memory(self, embed: Embed | None) -> MemoryRetriever:
        """See :class:`lrf.protocols.SearchesInMemory`."""
        return MemoryRetriever(
            MemorySettings(**self.settings.model_dump(include=set(MemorySettings.model_fields))), embed
        )
