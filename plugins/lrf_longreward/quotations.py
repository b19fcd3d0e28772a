"""What a judge quotes in its analysis, located in the documents.

Quotations are compared in *plain* text: white space of any length is one space, and quotation marks and dashes of any
form are one of each. Each is looked for exactly in the evidence, then exactly in the documents, then for something like
it in the evidence. That takes time in proportion to the documents' length and no more than once a sample.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from rapidfuzz import fuzz

from lrf.protocols import Context
from lrf.types import Chunk, Quotation, Sample, Span

MOST = 8
"""Quotations of one analysis that are looked for; the others are left out."""

LONGEST = 600
"""Characters of a quotation at most. Longer text between two marks is taken for prose."""

ALIKE = 0.8
"""The score from which on something is like a quotation."""

_FEWEST = 8  # bytes, so three Chinese characters: anything shorter is like too much
_LONGEST_PASSAGE = 50_000

_QUOTED = re.compile(
    "|".join(
        f"{start}([^{start}{end}]{{2,{LONGEST}}}){end}"
        for start, end in ("“”", '""', "「」", "『』", "«»", "„“", "„”", "‘’")
    )
)
_ELLIPSIS = re.compile(r"\s*[\[(]?(?:\.{3,}|…+)[\])]?\s*")
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»「」『』＂", '"'),
        **dict.fromkeys("‘’‚‛＇`´", "'"),
        **dict.fromkeys("‐‑‒–—―−－", "-"),
    }
)
_LONG_SPACE = re.compile(r"\s{2,}")
_EDGES = " \t\r\n\"'.,;:!?，。；：！？、"


async def located(
    analysis: str | None, statement: str, evidence: Sequence[Chunk], sample: Sample, ctx: Context
) -> tuple[Quotation, ...]:
    """The quotations in an analysis of a statement, each with its place in the sample's documents.

    Words that only the statement has are the statement's, and left out.
    """
    found = quotations_in(analysis or "")
    if not found:
        return ()
    spans = {text: exactly(text, evidence) for text in found}
    missing = [text for text, span in spans.items() if span is None]
    alike: Mapping[str, Quotation] = {}
    if missing:
        documents = await ctx.once("plain documents", lambda: asyncio.to_thread(_plain_documents, sample))
        alike = await asyncio.to_thread(lambda: {t: _elsewhere(t, evidence, sample, documents) for t in missing})
    quotations = [alike[t] if span is None else Quotation(t, span, 1.0) for t, span in spans.items()]
    of_statement = plain(statement)
    return tuple(q for q in quotations if q.score == 1 or plain(q.text) not in of_statement)


def quotations_in(analysis: str) -> list[str]:
    """What stands between quotation marks, without repetitions; what an ellipsis parts is several quotations."""
    pieces = (
        piece.strip(_EDGES)
        for match in _QUOTED.finditer(analysis)
        for piece in _ELLIPSIS.split(next(group for group in match.groups() if group is not None))
    )
    return list(dict.fromkeys(piece for piece in pieces if len(piece) > 1))[:MOST]


def plain(text: str) -> str:
    """The text with one space for any white space, and one form of quotation marks and dashes."""
    return re.sub(r"\s+", " ", text.translate(_PLAIN))


def exactly(quotation: str, evidence: Sequence[Chunk]) -> Span | None:
    """The first place in the evidence that has these words."""
    wanted = plain(quotation)
    for chunk in evidence:
        if (at := plain(chunk.text).find(wanted)) >= 0:
            return _span(chunk.document, chunk.text, chunk.start, at, at + len(wanted))
    return None


def alike(quotation: str, evidence: Sequence[Chunk]) -> tuple[Span, float] | None:
    """The place in the evidence that is most like these words, and how like it is: :data:`ALIKE` to 1, exclusive.

    A passage shorter than the quotation can't be more like it than their lengths are.
    """
    wanted, best = plain(quotation), None
    if len(wanted.encode("utf-8", "replace")) < _FEWEST:
        return None
    for chunk in evidence:
        text = plain(chunk.text)
        if not text or len(text) > _LONGEST_PASSAGE:
            continue
        place = fuzz.partial_ratio_alignment(wanted, text, score_cutoff=100 * ALIKE)
        if place is None:
            continue
        score = min(0.999, place.score / 100 * min(1.0, len(text) / len(wanted)))
        start, end = place.dest_start, place.dest_end
        shown = text[start:end]
        start, end = start + len(shown) - len(shown.lstrip()), end - len(shown) + len(shown.rstrip())
        if start < end and score >= ALIKE and (best is None or score > best[1]):
            best = _span(chunk.document, chunk.text, chunk.start, start, end), round(score, 3)
    return best


def _elsewhere(text: str, evidence: Sequence[Chunk], sample: Sample, documents: Mapping[str, str]) -> Quotation:
    """A quotation that isn't exactly in the evidence: in a document, or like something in the evidence, or nowhere."""
    wanted = plain(text)
    for document in sample.documents:
        if (at := documents[document.id].find(wanted)) >= 0:
            return Quotation(text, _span(document.id, document.text, 0, at, at + len(wanted)), 1.0)
    span, score = alike(text, evidence) or (None, 0.0)
    return Quotation(text, span, score)


def _plain_documents(sample: Sample) -> Mapping[str, str]:
    return {document.id: plain(document.text) for document in sample.documents}


def _span(document: str, text: str, offset: int, start: int, end: int) -> Span:
    """The characters of the document that are those from ``start`` to ``end`` of its piece ``text``, made plain.

    Neither the first nor the last of them is white space, so each stands for one character.
    """
    first, last = _original(text, start), _original(text, end - 1)
    return Span(document, offset + first, offset + last + 1)


def _original(text: str, place: int) -> int:
    """Where the character number ``place`` of the plain text stands in the text."""
    for space in _LONG_SPACE.finditer(text):
        if space.start() >= place:
            break
        place += len(space[0]) - 1
    return place
