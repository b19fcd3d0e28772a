"""Finds what a judge quotes in its analysis in the documents.

Texts are compared in a *plain* form, with one space for any white space and one form of quotation marks and dashes. A
quotation is searched exactly in the evidence, then exactly in the documents, then approximately in the evidence. Whole
words come before parts of words, and a part of a number never counts: "5 villages" is not in "15 villages". The time is
proportional to the documents' length, once a sample.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

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
_SMALL = 20_000  # characters of documents, or of evidence, that are looked through on the event loop
_MOST_PLACES = 1_000  # of the same words in a passage that are looked at

_QUOTED = re.compile(
    "|".join(f"{start}([^{start}{end}]*){end}" for start, end in ("“”", '""', "「」", "『』", "«»", "„“", "„”", "‘’"))
)
_ELLIPSIS = re.compile(r"[\[(]?(?:\.{3,}|…+)[\])]?")
_PLAIN = {
    **dict.fromkeys("“”„‟«»「」『』＂", '"'),
    **dict.fromkeys("‘’‚‛＇`´", "'"),
    **dict.fromkeys("‐‑‒–—―−－", "-"),
}
_MARK = re.compile(f"[{''.join(_PLAIN)}]")
_SPACE, _LONG_SPACE = re.compile(r"\s{2,}|[^\S ]"), re.compile(r"\s{2,}")
_PIECE = re.compile(r".{1,65536}\s*", re.DOTALL)  # which parts no white space
_EDGES = "\"'.,;:!?，。；：！？、" + "".join(chr(n) for n in range(0x3001) if chr(n).isspace())
# A letter of a script that has spaces between words: none of Thai to Tibetan, Burmese, Khmer, kana, Han and Hangul.
_LETTER = re.compile(
    "[^\\W\\d_\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
# What a number goes on with; a dot or a comma between three groups or more may be a date's.
_DIGITS_BEFORE = re.compile(r"\d\Z|(?<![\d.,])\d+[.,]\Z")
_DIGITS_AFTER = re.compile(r"\d|[.,]\d++(?![.,]\d)")
_NEAR = 24  # characters around a place that are looked at for them


@dataclass(frozen=True, slots=True)
class Passage:
    """The text from character ``start`` of a document on, as it is and made plain."""

    document: str
    start: int
    text: str
    plain: str


async def located(
    analysis: str | None, statement: str, evidence: Sequence[Chunk], sample: Sample, ctx: Context
) -> tuple[Quotation, ...]:
    """The quotations in an analysis of a statement, each with its place in the sample's documents.

    Words that only the statement has are the statement's, and left out.
    """
    quotations_found = quotations_in(analysis or "")
    if not quotations_found:
        return ()
    at_once = sum(len(document.text) for document in sample.documents) < _SMALL
    small = at_once or sum(len(chunk.text) for chunk in evidence) < _SMALL
    shown = passages(evidence) if small else await asyncio.to_thread(passages, evidence)
    spans = {text: exactly(text, shown) for text in quotations_found}
    missing = [text for text, span in spans.items() if span is None]
    elsewhere: Mapping[str, Quotation] = {}
    if missing and at_once:
        whole = _documents(sample)
        elsewhere = {text: _elsewhere(text, shown, whole) for text in missing}
    elif missing:
        whole = await ctx.once("plain documents", lambda: asyncio.to_thread(_documents, sample))
        elsewhere = await asyncio.to_thread(lambda: {text: _elsewhere(text, shown, whole) for text in missing})
    quotations = [elsewhere[t] if span is None else Quotation(t, span, 1.0) for t, span in spans.items()]
    of_statement = plain(statement)
    return tuple(q for q in quotations if q.score == 1 or plain(q.text) not in of_statement)


def quotations_in(analysis: str) -> list[str]:
    """What stands between quotation marks, without repetitions; what an ellipsis parts is several quotations."""
    quoted = (match[match.lastindex or 0] for match in _QUOTED.finditer(analysis))
    pieces = (piece.strip(_EDGES) for text in quoted if len(text) <= LONGEST for piece in _ELLIPSIS.split(text))
    return list(dict.fromkeys(piece for piece in pieces if len(piece) > 1))[:MOST]


def plain(text: str) -> str:
    """The text with one space for any white space, and one form of quotation marks and dashes."""
    # in pieces, since no other thread gets its turn while an expression goes through a text
    pieces = (_MARK.sub(lambda mark: _PLAIN[mark[0]], piece[0]) for piece in _PIECE.finditer(text))
    return "".join(_SPACE.sub(" ", piece) for piece in pieces)


def passages(chunks: Sequence[Chunk]) -> list[Passage]:
    return [Passage(chunk.document, chunk.start, chunk.text, _known_plain(chunk.text)) for chunk in chunks]


_plain_again = lru_cache(512)(plain)


def _known_plain(text: str) -> str:
    """:func:`plain`, remembered of short texts: a chunk is evidence of many statements, judged one after another."""
    return _plain_again(text) if len(text) < _SMALL else plain(text)


def exactly(quotation: str, where: Sequence[Passage]) -> Span | None:
    """The first place that has these words; one within other words only where they stand nowhere by themselves."""
    wanted, within = plain(quotation), None
    for passage in where:
        for at in islice(_occurrences(wanted, passage.plain), _MOST_PLACES):
            end = at + len(wanted)
            if _cuts_number(passage.plain, at, end):
                continue
            if not _cuts_word(passage.plain, at, end):
                return _span(passage, at, end)
            within = within or _span(passage, at, end)
    return within


def _occurrences(wanted: str, text: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _cuts_number(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    return (text[start].isdecimal() and _DIGITS_BEFORE.search(before) is not None) or (
        text[end - 1].isdecimal() and _DIGITS_AFTER.match(after) is not None
    )


def _cuts_word(text: str, start: int, end: int) -> bool:
    return any(0 < at < len(text) and _LETTER.match(text[at - 1]) and _LETTER.match(text[at]) for at in (start, end))


def alike(quotation: str, where: Sequence[Passage]) -> tuple[Span, float] | None:
    """The place that is most like these words, and how like it is: :data:`ALIKE` to 1, exclusive.

    A passage shorter than the quotation can't be more like it than their lengths are.
    """
    wanted, best = plain(quotation), None
    if len(wanted.encode("utf-8", "replace")) < _FEWEST:
        return None
    for passage in where:
        text = passage.plain
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
            best = _span(passage, start, end), round(score, 3)
    return best


def _elsewhere(text: str, evidence: Sequence[Passage], documents: Sequence[Passage]) -> Quotation:
    """A quotation that isn't exactly in the evidence: in a document, or like something in the evidence, or nowhere."""
    if span := exactly(text, documents):
        return Quotation(text, span, 1.0)
    place, score = alike(text, evidence) or (None, 0.0)
    return Quotation(text, place, score)


def _documents(sample: Sample) -> list[Passage]:
    return [Passage(document.id, 0, document.text, _known_plain(document.text)) for document in sample.documents]


def _span(passage: Passage, start: int, end: int) -> Span:
    """The characters of the document that are those from ``start`` to ``end`` of the passage's plain text.

    Neither the first nor the last of them is white space, so each stands for one character.
    """
    first, last = _original(passage.text, start), _original(passage.text, end - 1)
    return Span(passage.document, passage.start + first, passage.start + last + 1)


def _original(text: str, place: int) -> int:
    """Where the character number ``place`` of the plain text stands in the text."""
    for space in _LONG_SPACE.finditer(text):
        if space.start() >= place:
            break
        place += len(space[0]) - 1
    return place
