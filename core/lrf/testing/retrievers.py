"""The check of retrievers, to be called from their own tests."""

from __future__ import annotations

from collections.abc import Sequence

from lrf.protocols import ListsChunks, Retriever
from lrf.testing.example_samples import CANARIES, CHINESE
from lrf.testing.require import must
from lrf.types import Chunk, Document, Sample

_QUERIES = ("The contract was signed in 1997.", "Nobody came in the end.")


async def check_retriever(retriever: Retriever, sample: Sample | None = None) -> None:
    """A retriever gives each query pieces of the documents, in their order, and no more than it says it does.

    ``sample``, if given, is tried as well. The retriever is left open. Raises AssertionError that says what is wrong.
    """
    must(isinstance(retriever, Retriever), f"{type(retriever).__name__} lacks a member of lrf.protocols.Retriever")
    for tried in (CANARIES, CHINESE, *(() if sample is None else (sample,))):
        queries = (*_QUERIES, *(c.text for c in tried.candidates if c.text.strip()))
        index = await retriever.index(tried.documents)
        for top_k in (None, 1, 3):
            found = await index.search(queries, top_k)
            must(len(found) == len(queries), f"search() gave {len(found)} lists for {len(queries)} queries")
            for chunks in found:
                _check_chunks(chunks, tried.documents, top_k)
                if isinstance(retriever, ListsChunks):
                    _check_listed(retriever, chunks, tried.documents, top_k)
        must(await index.search([]) == [], "search() of no queries must give an empty list")
        await index.aclose()


def _check_chunks(chunks: Sequence[Chunk], documents: Sequence[Document], top_k: int | None) -> None:
    texts = {document.id: document.text for document in documents}
    places = {document.id: place for place, document in enumerate(documents)}
    for chunk in chunks:
        right = texts.get(chunk.document, "")[chunk.start : chunk.end] == chunk.text
        must(right and chunk.start < chunk.end, f"{chunk.span} is no piece of the document, or has another text")
    order = [(places[chunk.document], chunk.start, chunk.end) for chunk in chunks]
    must(order == sorted(order), "the chunks of a query are not in document order")
    must(len(set(order)) == len(order), "a query gets the same chunk twice")
    must(top_k is None or len(chunks) <= top_k, f"a query gets {len(chunks)} chunks with top_k={top_k}")


def _check_listed(
    retriever: ListsChunks, chunks: Sequence[Chunk], documents: Sequence[Document], top_k: int | None
) -> None:
    listed = set(retriever.chunks(documents))
    strange = next((chunk for chunk in chunks if chunk not in listed), None)
    must(strange is None, f"search() gave {strange and strange.span}, which chunks() doesn't list")
    most = retriever.chunks_per_query
    must(most >= 1, f"chunks_per_query must be 1 or more, not {most}")
    must(top_k is not None or len(chunks) <= most, f"a query gets {len(chunks)} chunks; chunks_per_query is {most}")
