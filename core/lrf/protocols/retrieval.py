"""Protocols of retrievers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lrf.protocols.models import Embed
from lrf.types import Chunk, Document


class Index(Protocol):
    """The documents of one sample, ready to be searched."""

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query its best chunks, in document order and without repetitions.

        ``top_k`` is the most chunks of a query; None: as many as the retriever's own settings say. The text of a chunk
        is exactly ``document.text[start:end]``. Raises :class:`lrf.errors.UnscorableError`.
        """
        ...

    async def aclose(self) -> None:
        """Forget the documents."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds the pieces of a sample's documents that bear on a text.

    It is made of its settings, and of ``embed`` (:data:`Embed`) if its :class:`lrf.ComponentSpec` needs an embedder.
    :func:`lrf.testing.check_retriever` checks one.
    """

    async def index(self, documents: Sequence[Document]) -> Index:
        """An index of these documents. Closed by the caller."""
        ...

    async def aclose(self) -> None:
        """Release what all indexes share."""
        ...


@runtime_checkable
class ListsChunks(Protocol):
    """Optional for a retriever: says what evidence it can give, without searching, so that ``lrf plan`` can count it.

    A plan of a retriever without it assumes that every query gets all documents whole, and says so.
    """

    @property
    def chunks_per_query(self) -> int:
        """The most chunks that ``search`` gives a query without ``top_k``, 1 or more."""
        ...

    def chunks(self, documents: Sequence[Document]) -> Sequence[Chunk]:
        """All chunks of these documents that ``search`` may give. Blocking and pure: nothing is embedded or kept."""
        ...


@runtime_checkable
class SearchesInMemory(Protocol):
    """Optional for a retriever: has a form that gives the same evidence and leaves no trace.

    ``lrf plan`` uses it, with vectors from a run's journal, to tell which questions about evidence are paid already. Of
    other retrievers it assumes these to be unpaid.
    """

    def in_memory(self, embed: Embed | None) -> Retriever:
        """A retriever of the same results that keeps nothing on disk and asks no server.

        ``embed`` raises LookupError for a text without a vector; let it pass.
        """
        ...
