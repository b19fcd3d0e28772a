"""Headings that tell the judge where a piece of the context is from. Titles are untrusted: they fill fields only."""

from __future__ import annotations

from itertools import accumulate

from lrf.errors import Reason, UnscorableError
from lrf.types import Chunk, Document, Sample


def check_documents(sample: Sample) -> None:
    """Raises :class:`lrf.errors.UnscorableError` (``empty_document``) when no document has text."""
    if not any(document.text.strip() for document in sample.documents):
        raise UnscorableError(Reason.EMPTY_DOCUMENT, "the sample's documents have no text")


def heading(sample: Sample, chunk: Chunk) -> str:
    """A space and the title (or else the id) of the chunk's document; empty when the sample has only one document."""
    if len(sample.documents) < 2:
        return ""
    return _titled(next(d for d in sample.documents if d.id == chunk.document))


class WholeDocument:
    """All documents of a sample as one, for the headings of many pieces (each turn of a dialogue is a document)."""

    def __init__(self, sample: Sample) -> None:
        self._documents = {document.id: document for document in sample.documents}
        *before, self._total = accumulate((len(d.text) for d in sample.documents), initial=0)
        self._before = {d.id: characters for d, characters in zip(sample.documents, before, strict=True)}

    def heading(self, chunk: Chunk) -> str:
        """See :func:`heading`."""
        return _titled(self._documents[chunk.document]) if len(self._documents) > 1 else ""

    def share(self, first: Chunk, last: Chunk) -> tuple[int, int]:
        """Where the first chunk starts and the last one ends in all documents together, in per cent of characters."""
        start, end = self._before[first.document] + first.start, self._before[last.document] + last.end
        return round(100 * start / self._total), round(100 * end / self._total)


def _titled(document: Document) -> str:
    return " " + " ".join((document.title or document.id).split())
