"""What the retrievers share: chunks found by meaning (dense), by words (lexical), or by both (hybrid)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID, uuid4

from lrf.protocols import Embed, EmbedKind
from lrf.text.chunking import chunk_document, slices
from lrf.text.tokenizers import tokenizer_of
from lrf.types import Chunk, Document
from lrf_retrieval.bm25 import Bm25
from lrf_retrieval.fusion import fuse
from lrf_retrieval.quoted import Quoted
from lrf_retrieval.settings import MemorySettings

if TYPE_CHECKING:
    from lrf.protocols import Vectors

_DEPTH = 100  # places of each ranking that hybrid fuses, at least


class Store(Protocol):
    """Keeps what is searched, of many samples at once. ``tenant`` names a sample; chunks are numbered from 0.

    Its methods raise :class:`lrf.errors.UnscorableError` (transient) when a server stays away, and
    :class:`lrf.errors.StageError` when it can't be used at all.
    """

    async def add_vectors(self, tenant: UUID, vectors: Vectors) -> None:
        """Keep the chunks' vectors, of shape (chunks, dimensions)."""
        ...

    async def add_terms(self, tenant: UUID, bm25: Bm25) -> None:
        """Keep the weights of the chunks' words, where the store adds them up itself."""
        ...

    async def nearest(self, tenant: UUID, queries: Vectors, most: int) -> list[list[int]]:
        """For each query the ``most`` chunks of the highest cosine, best first, equal ones by their number."""
        ...

    async def best(self, tenant: UUID, bm25: Bm25, queries: Sequence[str], most: int) -> list[list[int]]:
        """For each query up to ``most`` chunks that share a word with it, best first, equal ones by their number."""
        ...

    def forget(self, tenant: UUID) -> None:
        """Delete a sample's vectors, without waiting for it."""
        ...

    async def drop(self, tenant: UUID) -> None:
        """Delete a sample's vectors."""
        ...

    async def aclose(self) -> None: ...


class ChunkRetriever:
    """Finds chunks by the cosine of their embedding and the query's, by BM25, or by both rankings fused.

    The chunks found are the same in every store.
    """

    def __init__(self, settings: MemorySettings, store: Store, embed: Embed | None = None) -> None:
        # Loading blocks all threads for half a second, so it comes before any call; so does a wrong setting's error.
        tokenizer_of(settings.tokenizer)
        self.settings = settings
        self.embed = embed
        self.store = store

    async def index(self, documents: Sequence[Document]) -> ChunkIndex:
        """The documents, cut into chunks and ready to be searched."""
        by_document = await asyncio.to_thread(self._chunks_by_document, documents)
        chunks = [chunk for of_document in by_document for chunk in of_document]
        index = ChunkIndex(self, chunks)
        try:
            async with asyncio.TaskGroup() as both:
                if chunks and self.settings.mode != "lexical":
                    both.create_task(index.by_meaning())
                if chunks and self.settings.mode != "dense":
                    both.create_task(index.by_words(documents, by_document))
        except BaseException as error:
            self.store.forget(index.tenant)
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
        return [chunk for of_document in self._chunks_by_document(documents) for chunk in of_document]

    async def embedded(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of the texts."""
        assert self.embed is not None, f"mode {self.settings.mode} needs an embedder"
        return await self.embed(texts, kind)

    async def aclose(self) -> None:
        await self.store.aclose()

    def _chunks_by_document(self, documents: Sequence[Document]) -> list[tuple[Chunk, ...]]:
        s = self.settings
        if s.chunk_ends == "token":
            return [tuple(piece.chunk for piece in slices(d, s.chunk_tokens, s.tokenizer)) for d in documents]
        return [
            chunk_document(d, s.chunk_tokens, overlap=s.chunk_overlap, whole_sentences=True, tokenizer=s.tokenizer)
            for d in documents
        ]


class ChunkIndex:
    """The chunks of one sample, under their own name in the store."""

    def __init__(self, retriever: ChunkRetriever, chunks: Sequence[Chunk]) -> None:
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
            return await self._nearest(queries, top_k)
        if mode == "lexical":
            return await self._best_by_words(queries, top_k)
        depth = max(_DEPTH, top_k)
        rankings = await asyncio.gather(self._nearest(queries, depth), self._best_by_words(queries, depth))
        return [fuse(both, top_k) for both in zip(*rankings, strict=True)]

    async def aclose(self) -> None:
        if self.chunks:
            await self._retriever.store.drop(self.tenant)

    # --- within ----------------------------------------------------------------------------------------------------

    async def by_meaning(self) -> None:
        """Index the chunks for searches by embedding."""
        vectors = await self._retriever.embedded([chunk.text for chunk in self.chunks], "document")
        await self._retriever.store.add_vectors(self.tenant, vectors)

    async def by_words(self, documents: Sequence[Document], by_document: Sequence[Sequence[Chunk]]) -> None:
        """Index the chunks for searches by words. ``by_document`` has the chunks of each document."""
        texts = [chunk.text for chunk in self.chunks]
        words = await asyncio.to_thread(lambda: (Bm25(texts), Quoted(documents, by_document)))
        self._words = words
        await self._retriever.store.add_terms(self.tenant, words[0])

    async def _nearest(self, queries: Sequence[str], most: int) -> list[list[int]]:
        vectors = await self._retriever.embedded(queries, "query")
        return await self._retriever.store.nearest(self.tenant, vectors, min(most, len(self.chunks)))

    async def _best_by_words(self, queries: Sequence[str], most: int) -> list[list[int]]:
        """Chunks that contain the query word for word, then the others by BM25."""
        assert self._words is not None, "indexed before it is searched"
        bm25, quoted = self._words
        scored = await self._retriever.store.best(self.tenant, bm25, queries, most)

        def ordered() -> list[list[int]]:
            return [_first(quoted.holding(query), ranked, most) for query, ranked in zip(queries, scored, strict=True)]

        return await asyncio.to_thread(ordered)


def _first(held: Mapping[int, int], scored: Sequence[int], most: int) -> list[int]:
    """The chunks that hold the query word for word (by how much of it, then by score), then the others by score."""
    place = {number: i for i, number in enumerate(scored)}
    holders = sorted(held, key=lambda number: (-held[number], place.get(number, len(scored)), number))
    return list(dict.fromkeys((*holders, *scored)))[:most]
