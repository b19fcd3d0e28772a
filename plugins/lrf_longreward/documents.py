"""Where a piece of the context stands, told to the judge. Titles are untrusted: they go into field values only."""

from __future__ import annotations

from itertools import accumulate

from lrf.errors import Reason, UnscorableError
from lrf.types import Chunk, Document, Sample


def check_documents(sample: Sample) -> None:
    """Raises :class:`lrf.errors.UnscorableError` where there is no text that an answer could be held against."""
    if not any(document.text.strip() for document in sample.documents):
        raise UnscorableError(Reason.EMPTY_DOCUMENT, "the sample's documents hold no text")


def heading(sample: Sample, chunk: Chunk) -> str:
    """`` title`` of the chunk's document (its id, if it has none); empty when the sample has but one document."""
    if len(sample.documents) < 2:
        return ""
    return _titled(next(d for d in sample.documents if d.id == chunk.document))


class WholeDocument:
    """All documents of a sample as one, for the headings of many pieces: of a dialogue each turn is a document."""

    def __init__(self, sample: Sample) -> None:
        self._documents = {document.id: document for document in sample.documents}
        *before, self._total = accumulate((len(d.text) for d in sample.documents), initial=0)
        self._before = {d.id: characters for d, characters in zip(sample.documents, before, strict=True)}

    def heading(self, chunk: Chunk) -> str:
        """As :func:`heading`."""
        return _titled(self._documents[chunk.document]) if len(self._documents) > 1 else ""

    def share(self, first: Chunk, last: Chunk) -> tuple[int, int]:
        """Where one chunk starts and another ends in all documents together, in per cent of their characters."""
        start, end = self._before[first.document] + first.start, self._before[last.document] + last.end
        return round(100 * start / self._total), round(100 * end / self._total)


def _titled(document: Document) -> str:
    return " " + " ".join((document.title or document.id).split())
