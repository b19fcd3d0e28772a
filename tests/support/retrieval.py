"""Retrievers for tests: wherever chunks can be kept, in memory, in a folder or on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf.protocols import Embed, EmbedKind
from lrf.types import Document
from lrf_retrieval.memory import MemoryRetriever
from lrf_retrieval.qdrant.retriever import QdrantRetriever
from lrf_retrieval.retriever import ChunkRetriever
from lrf_retrieval.settings import MemorySettings, QdrantSettings

if TYPE_CHECKING:
    from lrf.protocols import Vectors

WORDS = ("harbour", "lamp", "granite", "oil", "keeper", "town", "storm", "ledger")


def retriever_of(place: dict[str, Any], embed: Embed, **settings: Any) -> ChunkRetriever:
    """A retriever of small chunks at a place: the type ``qdrant`` if the place says where, else ``memory``."""
    values = {"chunk_tokens": 32, **place, **settings}
    if place:
        return QdrantRetriever(QdrantSettings(**values), embed)
    return MemoryRetriever(MemorySettings(**values), embed)


class WordCounts:
    """Embeds a text by how often each of a few words stands in it, and remembers what it was asked."""

    def __init__(self, words: Sequence[str] = WORDS) -> None:
        self.words = words
        self.calls: list[tuple[EmbedKind, int]] = []

    async def __call__(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        self.calls.append((kind, len(texts)))
        rows = [[text.lower().count(word) for word in self.words] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), len(self.words))


def paragraphs(*words: str) -> Document:
    """A document with a chunk of about thirty tokens for each word."""
    filler = "It was written down with care by those who had been there at the time and saw all of it happen. "
    return Document("doc", "\n".join(f"The {word} and the {word}. {filler}" for word in words))
