"""The retriever ``qdrant``: chunks found by meaning (dense), by words (lexical), or by both (hybrid)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID, uuid4

from lrf.protocols import Embed
from lrf.text.chunking import chunk_document
from lrf.text.tokenizers import tokenizer_of
from lrf.types import Chunk, Document
from lrf_qdrant.bm25 import Bm25
from lrf_qdrant.fusion import fuse
from lrf_qdrant.quoted import Quoted
from lrf_qdrant.settings import QdrantSettings
from lrf_qdrant.spaces import Lexical, dense
from lrf_qdrant.store import Store

T = TypeVar("T")

_DEPTH = 100  # places of each ranking that hybrid fuses, at least


class QdrantRetriever:
    """Finds chunks by the cosine of their embedding and the query's, by BM25, or by both rankings fused.

    Qdrant's local mode blocks and takes one thread at a time, so one thread makes all requests.
    """

    def __init__(self, settings: QdrantSettings, embed: Embed | None = None) -> None:
        # Both block all threads for half a second, so they come before any call; so does the error of a wrong setting.
        tokenizer_of(settings.tokenizer)
        if settings.mode != "lexical" or settings.url is not None:
            import qdrant_client  # noqa: F401
        self.settings = settings
        self.embed = embed
        self.store = Store(settings)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-qdrant")

    async def index(self, documents: Sequence[Document]) -> QdrantIndex:
        """The documents, cut into chunks that end with a sentence where they can, ready to be searched."""
        cut = await asyncio.to_thread(self._chunks_by_document, documents)
        chunks = [chunk for own in cut for chunk in own]
        index = QdrantIndex(self, chunks)
        try:
            async with asyncio.TaskGroup() as both:
                if chunks and self.settings.mode != "lexical":
                    both.create_task(index.by_meaning())
                if chunks and self.settings.mode != "dense":
                    both.create_task(index.by_words(documents, cut))
        except BaseException as error:
            self.forget(index.tenant)  # in the same thread, hence after its other work
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return index

    @property
    def chunks_per_query(self) -> int:
        """See :class:`lrf.protocols.ListsChunks`."""
        return self.settings.top_k

    def chunks(self, documents: Sequence[Document]) -> list[Chunk]:
        """See :class:`lrf.protocols.ListsChunks`."""
        return [chunk for own in self._chunks_by_document(documents) for chunk in own]

    def in_memory(self, embed: Embed | None) -> QdrantRetriever:
        """See :class:`lrf.protocols.SearchesInMemory`."""
        return QdrantRetriever(self.settings.model_copy(update={"path": None, "url": None}), embed)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called in Qdrant's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def forget(self, tenant: UUID) -> None:
        """Drop a tenant's vectors, without waiting for it."""
        self._thread.submit(self.store.drop, tenant)

    async def aclose(self) -> None:
        await self.run(self.store.close)
        self._thread.shutdown(wait=False)

    def _chunks_by_document(self, documents: Sequence[Document]) -> list[tuple[Chunk, ...]]:
        s = self.settings
        return [
            chunk_document(d, s.chunk_tokens, overlap=s.chunk_overlap, whole_sentences=True, tokenizer=s.tokenizer)
            for d in documents
        ]


class QdrantIndex:
    """The chunks of one sample, under their own name in the store."""

    def __init__(self, retriever: QdrantRetriever, chunks: Sequence[Chunk]) -> None:
        self.tenant = uuid4()
        self._retriever = retriever
        self.chunks = chunks
        self._words: tuple[Bm25, Quoted] | None = None

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query its best chunks, in document order.

        Fewer than ``top_k`` if there are no more. In mode ``lexical``, only chunks that share a word with the query.
        """
        top_k = self._retriever.settings.top_k if top_k is None else top_k
        if not queries or not self.chunks or top_k < 1:
            return [[] for _ in queries]
        rankings = await self.ranked(queries, top_k)
        return [[self.chunks[number] for number in sorted(numbers)] for numbers in rankings]

    async def ranked(self, queries: Sequence[str], top_k: int) -> list[list[int]]:
        """For each query the numbers of its best chunks, best first."""
        mode = self._retriever.settings.mode
        if mode == "dense":
            return await self._meant(queries, top_k)
        if mode == "lexical":
            return await self._worded(queries, top_k)
        depth = max(_DEPTH, top_k)
        rankings = await asyncio.gather(self._meant(queries, depth), self._worded(queries, depth))
        return [fuse(both, top_k) for both in zip(*rankings, strict=True)]

    async def aclose(self) -> None:
        if self.chunks:
            await self._retriever.run(lambda: self._retriever.store.drop(self.tenant))

    # --- within ----------------------------------------------------------------------------------------------------

    async def by_meaning(self) -> None:
        """Index the chunks for searches by embedding."""
        retriever = self._retriever
        assert retriever.embed is not None, f"mode {retriever.settings.mode} needs an embedder"
        vectors = await retriever.embed([chunk.text for chunk in self.chunks], "document")
        await retriever.run(lambda: retriever.store.add(self.tenant, dense(vectors)))

    async def by_words(self, documents: Sequence[Document], cut: Sequence[Sequence[Chunk]]) -> None:
        """Index the chunks for searches by words. ``cut`` has the chunks of each document."""
        words = await asyncio.to_thread(lambda: (Bm25([chunk.text for chunk in self.chunks]), Quoted(documents, cut)))
        self._words = words
        if self._retriever.settings.url is not None:
            store = self._retriever.store
            await self._retriever.run(lambda: store.add(self.tenant, Lexical(words[0].documents())))

    async def _meant(self, queries: Sequence[str], most: int) -> list[list[int]]:
        retriever, count = self._retriever, len(self.chunks)
        assert retriever.embed is not None, f"mode {retriever.settings.mode} needs an embedder"
        vectors = await retriever.embed(queries, "query")
        return await retriever.run(lambda: retriever.store.search(self.tenant, dense(vectors), most, count))

    async def _worded(self, queries: Sequence[str], most: int) -> list[list[int]]:
        return await self._retriever.run(lambda: self._by_words(queries, most))

    def _by_words(self, queries: Sequence[str], most: int) -> list[list[int]]:
        """Chunks that hold the query word for word, then by BM25.

        A server adds up the weights. Qdrant's local mode would take 20 ms a query for it, in Python, so there they are
        added up here, with the same result.
        """
        assert self._words is not None, "indexed before it is searched"
        bm25, quoted = self._words
        weighed = [bm25.query(query) for query in queries]
        if self._retriever.settings.url is None:
            scored = [bm25.best(query, most) for query in weighed]
        else:
            known = [i for i, (numbers, _) in enumerate(weighed) if numbers]
            store, scored = self._retriever.store, [[] for _ in queries]
            asked = Lexical([weighed[i] for i in known])
            for i, numbers in zip(known, store.search(self.tenant, asked, most, len(self.chunks)), strict=True):
                scored[i] = numbers
        return [_first(quoted.holding(query), numbers, most) for query, numbers in zip(queries, scored, strict=True)]


def _first(held: Mapping[int, int], scored: Sequence[int], most: int) -> list[int]:
    """The chunks that hold the query word for word (by how much of it, then by score), then the others by score."""
    place = {number: i for i, number in enumerate(scored)}
    holders = sorted(held, key=lambda number: (-held[number], place.get(number, len(scored)), number))
    return list(dict.fromkeys((*holders, *scored)))[:most]
