"""Headings that tell the judge where a piece of the context is from. Titles are untrusted: they fill fields only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from lrf.errors import Reason, UnscorableError
from lrf.text.chunking import Slice
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
    """All documents of a sample as one, for the headings of many pieces (each turn of a dialogue is a document).

    Parameters
    ----------
    pieces: the documents cut by tokens, for shares in tokens; None: shares are in characters.
    published: whether headings are those of LongReward's published prompts.
    """

    def __init__(self, sample: Sample, pieces: Sequence[Slice] | None = None, *, published: bool = False) -> None:
        self.published = published
        self._documents = {document.id: document for document in sample.documents}
        self._tokens: dict[Chunk, tuple[int, int]] = {}
        tokens_before = tokens = 0
        for piece in pieces or ():
            if piece.start == 0:  # the next document begins
                tokens_before = tokens
            tokens = tokens_before + piece.end
            self._tokens[piece.chunk] = tokens_before + piece.start, tokens
        self._total_tokens = tokens
        *before, self._total = accumulate((len(d.text) for d in sample.documents), initial=0)
        self._before = {d.id: characters for d, characters in zip(sample.documents, before, strict=True)}

    def heading(self, chunk: Chunk) -> str:
        """See :func:`heading`."""
        return _titled(self._documents[chunk.document]) if len(self._documents) > 1 else ""

    def share(self, first: Chunk, last: Chunk) -> tuple[int, int]:
        """Where the first chunk starts and the last one ends in all documents together, in per cent."""
        if self._tokens:
            total = self._total_tokens
            return round(self._tokens[first][0] / total * 100), round(self._tokens[last][1] / total * 100)
        start, end = self._before[first.document] + first.start, self._before[last.document] + last.end
        return round(100 * start / self._total), round(100 * end / self._total)


def _titled(document: Document) -> str:
    return " " + " ".join((document.title or document.id).split())
