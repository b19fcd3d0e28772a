"""A second look before a statement counts as unsupported: does the document not say it, or was it not retrieved?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from lrf.protocols import Context
from lrf.types import Chunk, JudgedStatement, Sample
from lrf_longreward.support import SUPPORT
from lrf_longreward.verdicts import Claim, VerdictCheck

WIDER = 3
"""How many times the chunks of the first look ``widen`` asks for."""

NO_SUPPORT = min(SUPPORT, key=lambda label: SUPPORT[label])


async def look_again(
    how: Literal["widen", "neighbours"],
    sample: Sample,
    claims: Sequence[Claim],
    judged: Sequence[JudgedStatement],
    verdicts: VerdictCheck,
    ctx: Context,
) -> tuple[list[JudgedStatement], dict[str, int]]:
    """All judgements, where those of no support are replaced by a second one on more evidence; and what changed.

    A statement without more evidence keeps its judgement, and no call is made for it.
    """
    doubted = [claim for claim, first in zip(claims, judged, strict=True) if first.verdict == NO_SUPPORT]
    if how == "widen":
        more = await _widened(doubted, sample, ctx)
    else:
        more = [ctx.around(chunks) for _, chunks in doubted]
    again = [
        (text, chunks)
        for (text, before), chunks in zip(doubted, more, strict=True)
        if {c.span for c in chunks} != {c.span for c in before}
    ]
    second = {s.text: s for s in await verdicts.judge(sample, again, ctx)}
    result = [_after_second_look(first, second.get(first.text)) for first in judged]
    counts = {"second_looks": len(again), "not_retrieved": sum(s.attribution == "not_retrieved" for s in result)}
    return result, counts


def _after_second_look(first: JudgedStatement, second: JudgedStatement | None) -> JudgedStatement:
    if first.verdict != NO_SUPPORT:
        return first
    if second is None:
        return replace(first, attribution="unsupported")
    supported = second.verdict != NO_SUPPORT
    return replace(second, first=first, attribution="not_retrieved" if supported else "unsupported")


async def _widened(claims: Sequence[Claim], sample: Sample, ctx: Context) -> list[list[Chunk]]:
    """For each claim its chunks and others, up to :data:`WIDER` times as many, in document order."""
    most = max((len(chunks) for _, chunks in claims), default=0)
    if not most:
        return [[] for _ in claims]
    places = {document.id: place for place, document in enumerate(sample.documents)}
    wide = await ctx.evidence([text for text, _ in claims], WIDER * most)
    widened = []
    for (_, before), more in zip(claims, wide, strict=True):
        chunks = list({chunk.span: chunk for chunk in (*before, *more)}.values())[: WIDER * most]
        widened.append(sorted(chunks, key=lambda c: (places[c.document], c.start, c.end)))
    return widened
