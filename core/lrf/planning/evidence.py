"""Evidence in a plan: chunks that a retriever could give, found without embedding anything or asking a server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrf.engine.passages import TIMES
from lrf.protocols import Embed, Embedder, EmbedKind, Index, ListsChunks, Retriever, SearchesInMemory
from lrf.store.journal import digest, identity_text, vector_key
from lrf.text.unicode import storable
from lrf.types import Chunk, Document

if TYPE_CHECKING:
    from lrf.protocols import Vectors
    from lrf.store.kept import KeptReplies


class NotKeptError(LookupError):
    """A text whose vector no journal has."""


def kept_embed(embedder: Embedder, kept: KeptReplies) -> Embed:
    """An embedder's function that takes all vectors from journals. Raises :class:`NotKeptError`."""
    identity = identity_text(embedder.identity)

    async def embed(texts: Sequence[str], kind: EmbedKind) -> Vectors:
        keys = [vector_key(identity, kind, storable(text)) for text in texts]
        vectors = await asyncio.to_thread(kept.vectors, list(dict.fromkeys(keys)))
        if any(key not in vectors for key in keys):
            raise NotKeptError
        return np.array([np.frombuffer(vectors[key], dtype="<f4") for key in keys], dtype=np.float32)

    return embed


def chunks_of(retriever: Retriever, documents: Sequence[Document]) -> list[Chunk]:
    """The chunks that the retriever could give; all documents whole if it doesn't list its chunks. Blocks."""
    if isinstance(retriever, ListsChunks):
        return list(retriever.chunks(documents))
    return [Chunk(d.id, 0, len(d.text), d.text) for d in documents if d.text]


def number_of_chunks(retriever: Retriever, chunks: Sequence[Chunk], top_k: int | None) -> int:
    """How many of these chunks a query gets at most."""
    if top_k is None:
        top_k = retriever.chunks_per_query if isinstance(retriever, ListsChunks) else len(chunks)
    return min(top_k, len(chunks))


# --- what is expected ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExpectedRetriever:
    """Gives each query chunks that a hash of the query chooses: of the usual length.

    Where a journal has the vectors of a sample's chunks and queries, ``exact`` gives the evidence that a run would get,
    so that requests with it are recognised as paid. ``embeds`` is called with the number of texts to embed.
    """

    retriever: Retriever
    exact: Retriever | None
    embeds: Callable[[int], None]

    async def index(self, documents: Sequence[Document]) -> Index:
        exact = None
        if self.exact is not None:
            try:
                exact = await self.exact.index(documents)
            except NotKeptError:
                exact = None
        chunks = await asyncio.to_thread(chunks_of, self.retriever, documents)
        if exact is None:
            self.embeds(len(chunks))
        return _ExpectedIndex(self, chunks, exact)

    async def aclose(self) -> None:
        if self.exact is not None:
            await self.exact.aclose()


@dataclass(frozen=True, slots=True)
class _ExpectedIndex:
    owner: ExpectedRetriever
    chunks: Sequence[Chunk]
    exact: Index | None

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        if self.exact is not None:
            try:
                return await self.exact.search(queries, top_k)
            except NotKeptError:
                pass
        self.owner.embeds(len(queries))
        wanted = number_of_chunks(self.owner.retriever, self.chunks, top_k)
        return [self._chosen(query, wanted) for query in queries]

    def _chosen(self, query: str, wanted: int) -> list[Chunk]:
        places = random.Random(digest(query)).sample(range(len(self.chunks)), wanted)
        return [self.chunks[place] for place in sorted(places)]

    async def aclose(self) -> None:
        if self.exact is not None:
            await self.exact.aclose()


def exact_retriever(retriever: Retriever, embed: Embed | None, kept: KeptReplies) -> Retriever | None:
    """The retriever in the form that leaves no trace; None if it has no such form, or nothing is kept."""
    return retriever.in_memory(embed) if kept and isinstance(retriever, SearchesInMemory) else None


# --- the upper bound -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BoundRetriever:
    """Gives every query the longest chunks that the retriever could give."""

    retriever: Retriever

    async def index(self, documents: Sequence[Document]) -> Index:
        return _BoundIndex(self.retriever, await asyncio.to_thread(chunks_of, self.retriever, documents))

    async def aclose(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _BoundIndex:
    retriever: Retriever
    chunks: Sequence[Chunk]

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        by_length = sorted(range(len(self.chunks)), key=lambda i: -_bytes(self.chunks[i]))
        wanted = number_of_chunks(self.retriever, self.chunks, top_k)
        longest = [self.chunks[i] for i in sorted(by_length[:wanted])]
        return [longest for _ in queries]

    async def aclose(self) -> None:
        return None


def longest_around(documents: Sequence[Document], chunks: Sequence[Chunk]) -> list[Chunk]:
    """As many passages as chunks, each with as many bytes as any chunk together with the text around it can have.

    ``chunks`` include the longest of all in bytes, and none has more characters than that one has bytes.
    """
    width = TIMES * max(map(_bytes, chunks), default=0)
    passages = [_heaviest(document, width) for document in documents if document.text]
    heaviest = max(passages, key=_bytes, default=None)
    return [] if heaviest is None else [heaviest] * len(chunks)


def _bytes(chunk: Chunk) -> int:
    return len(chunk.text.encode("utf-8", "replace"))


def _heaviest(document: Document, width: int) -> Chunk:
    """The piece of ``width`` characters (or the whole document) that has most bytes."""
    points = np.frombuffer(document.text.encode("utf-32-le", "replace"), dtype=np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    before = np.concatenate(([0], np.cumsum(sizes)))
    width = min(width, len(points))
    start = int(np.argmax(before[width:] - before[: len(before) - width]))
    return Chunk(document.id, start, start + width, document.text[start : start + width])
