"""Where a piece of the context stands, told to the judge. Titles are untrusted: they go into field values only."""

from __future__ import annotations

from lrf.errors import Unscorable
from lrf.types import Chunk, Sample


def check_documents(sample: Sample) -> None:
    """Raises :class:`lrf.errors.Unscorable` where there is no text that an answer could be held against."""
    if not any(document.text.strip() for document in sample.documents):
        raise Unscorable("empty_document", "the sample's documents hold no text")


def heading(sample: Sample, chunk: Chunk) -> str:
    """`` title`` of the chunk's document (its id, if it has none); empty when the sample has but one document."""
    if len(sample.documents) < 2:
        return ""
    document = next(d for d in sample.documents if d.id == chunk.document)
    return " " + " ".join((document.title or document.id).split())


def share(sample: Sample, chunk: Chunk) -> tuple[int, int]:
    """Where the chunk starts and ends in all documents together, in per cent of their characters."""
    before = 0
    for document in sample.documents:
        if document.id == chunk.document:
            break
        before += len(document.text)
    total = sum(len(d.text) for d in sample.documents)
    return round(100 * (before + chunk.start) / total), round(100 * (before + chunk.end) / total)
