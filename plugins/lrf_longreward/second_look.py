"""A second look before a statement counts as unsupported: does the document not say it, or was it not retrieved?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from lrf.protocols import Context
from lrf.types import Chunk, Document, JudgedStatement, Sample
from lrf_longreward.verdicts import SUPPORT, Claim, Examination

WIDER = 3
"""How many times the chunks of the first look ``widen`` asks for."""

NO_SUPPORT = min(SUPPORT, key=lambda label: SUPPORT[label])
_BREAK = re.compile(r"\s|[。！？；，、]")
_MOST_TO_BREAK = 80  # characters given up so that a passage starts and ends between words


async def look_again(
    how: Literal["widen", "neighbours"],
    sample: Sample,
    claims: Sequence[Claim],
    judged: Sequence[JudgedStatement],
    examination: Examination,
    ctx: Context,
) -> tuple[list[JudgedStatement], dict[str, int]]:
    """All judgements, those of no support replaced by that of a second look on more evidence; and what it changed.

    A statement for which there is no more evidence keeps its judgement without being asked about again.
    """
    doubted = [claim for claim, first in zip(claims, judged, strict=True) if first.verdict == NO_SUPPORT]
    if how == "widen":
        more = await _widened(doubted, sample, ctx)
    else:
        more = [neighbours(sample, chunks) for _, chunks in doubted]
    again = [
        (text, chunks)
        for (text, before), chunks in zip(doubted, more, strict=True)
        if {c.span for c in chunks} != {c.span for c in before}
    ]
    second = {s.text: s for s in await examination.judge(sample, again, ctx)}
    result = []
    for first in judged:
        if first.verdict != NO_SUPPORT:
            result.append(first)
        elif first.text not in second:
            result.append(replace(first, attribution="unsupported"))
        else:
            now = second[first.text]
            found = now.verdict != NO_SUPPORT
            result.append(replace(now, first=first, attribution="not_retrieved" if found else "unsupported"))
    counts = {"second_looks": len(again), "not_retrieved": sum(s.attribution == "not_retrieved" for s in result)}
    return result, counts


async def _widened(claims: Sequence[Claim], sample: Sample, ctx: Context) -> list[list[Chunk]]:
    """For each claim its chunks and the best :data:`WIDER` times as many, in document order."""
    most = max((len(chunks) for _, chunks in claims), default=0)
    if not most:
        return [[] for _ in claims]
    places = {document.id: place for place, document in enumerate(sample.documents)}
    wide = await ctx.evidence([text for text, _ in claims], WIDER * most)
    return [
        sorted({c.span: c for c in (*before, *found)}.values(), key=lambda c: (places[c.document], c.start, c.end))
        for (_, before), found in zip(claims, wide, strict=True)
    ]


def neighbours(sample: Sample, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks with what stands before and after them, as much again on both sides; what touches becomes one."""
    found: list[Chunk] = []
    documents = {document.id: document for document in sample.documents}
    for name, of_document in groupby(chunks, lambda chunk: chunk.document):
        spans: list[tuple[int, int]] = []
        for start, end in sorted(_around(documents[name], chunk) for chunk in of_document):
            if spans and start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(end, spans[-1][1])
            else:
                spans.append((start, end))
        found += [Chunk(name, start, end, documents[name].text[start:end]) for start, end in spans]
    return found


def _around(document: Document, chunk: Chunk) -> tuple[int, int]:
    text, length = document.text, chunk.end - chunk.start
    start, end = max(0, chunk.start - length), min(len(text), chunk.end + length)
    if start:
        space = _BREAK.search(text, start, min(chunk.start, start + _MOST_TO_BREAK))
        start = space.end() if space else start
    if end < len(text):
        spaces = list(_BREAK.finditer(text, max(chunk.end, end - _MOST_TO_BREAK), end))
        end = spaces[-1].end() if spaces else end
    while start < chunk.start and unicodedata.combining(text[start]):
        start += 1
    while chunk.end < end < len(text) and unicodedata.combining(text[end]):
        end -= 1
    return start, end
