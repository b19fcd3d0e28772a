"""The retriever ``qdrant``: a sample's chunks, embedded, in Qdrant; for each query the nearest by cosine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID, uuid4

from lrf.chunking import chunk_document
from lrf.protocols import Embed
from lrf.types import Chunk, Document
from lrf_qdrant.settings import QdrantSettings
from lrf_qdrant.store import Store

T = TypeVar("T")


class QdrantRetriever:
    """Finds chunks by the cosine of their embedding and the query's.

    Qdrant's local mode blocks and takes one thread at a time, so everything is asked of it in a thread of its own.
    """

    def __init__(self, settings: QdrantSettings, embed: Embed) -> None:
        self.settings = settings
        self.embed = embed
        self.store = Store(settings)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-qdrant")

    async def index(self, documents: Sequence[Document]) -> QdrantIndex:
        """The documents, cut into chunks that end with a sentence where they can, ready to be searched."""
        chunks = await asyncio.to_thread(self._chunks, documents)
        index = QdrantIndex(self, chunks)
        if chunks:
            vectors = await self.embed([chunk.text for chunk in chunks], "document")
            try:
                await self.run(lambda: self.store.add(index.tenant, vectors))
            except BaseException:
                self.forget(index.tenant)  # in the same thread, so after whatever it is still doing
                raise
        return index

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done in Qdrant's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def forget(self, tenant: UUID) -> None:
        """Have a tenant dropped without waiting for it."""
        self._thread.submit(self.store.drop, tenant)

    async def aclose(self) -> None:
        await self.run(self.store.close)
        self._thread.shutdown(wait=False)

    def _chunks(self, documents: Sequence[Document]) -> tuple[Chunk, ...]:
        cut = (chunk_document(d, self.settings.chunk_tokens, whole_sentences=True) for d in documents)
        return tuple(chunk for chunks in cut for chunk in chunks)


class QdrantIndex:
    """The chunks of one sample, under a name of their own in the store."""

    def __init__(self, retriever: QdrantRetriever, chunks: Sequence[Chunk]) -> None:
        self.tenant = uuid4()
        self._retriever = retriever
        self._chunks = chunks

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query its nearest chunks, in document order; fewer than ``top_k`` only if there are no more."""
        retriever, chunks = self._retriever, self._chunks
        top_k = retriever.settings.top_k if top_k is None else top_k
        if not queries or not chunks or top_k < 1:
            return [[] for _ in queries]
        vectors = await retriever.embed(queries, "query")
        found = await retriever.run(lambda: retriever.store.search(self.tenant, vectors, top_k, len(chunks)))
        return [[chunks[number] for number in sorted(numbers)] for numbers in found]

    async def aclose(self) -> None:
        if self._chunks:
            await self._retriever.run(lambda: self._retriever.store.drop(self.tenant))
