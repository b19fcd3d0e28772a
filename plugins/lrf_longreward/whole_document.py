"""Statements judged on the whole document: every statement of every candidate is a question on the same material."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from dataclasses import replace

from lrf.protocols import Context
from lrf.text.chunking import count_tokens
from lrf.types import JSON, Chunk, JudgedStatement, Sample, Span
from lrf_longreward.answers import all_of
from lrf_longreward.documents import heading
from lrf_longreward.passages import PassageQuestions, Passages, numbered
from lrf_longreward.settings import FaithfulnessSettings
from lrf_longreward.statement_questions import StatementQuestions

BESIDE, ROOM = 512, 0.75
"""Tokens of the judge's window that are set aside, and the share of the rest that a piece of the document may take."""

SMALLEST = 64
"""Tokens of a piece at least."""


class DocumentCheck:
    """Has statements judged on the document, or on each of its pieces where it is longer than the judge's window.

    Of several pieces the one with most support counts, since each holds a part only.
    """

    def __init__(self, settings: FaithfulnessSettings) -> None:
        self._questions = StatementQuestions(settings)
        self._which = PassageQuestions(settings) if settings.locate == "judge" else None

    async def judge(
        self, sample: Sample, statements: Sequence[str], ctx: Context
    ) -> tuple[list[JudgedStatement], dict[str, JSON]]:
        """A judgement on each statement, and what was read. Raises :class:`lrf.errors.UnscorableError`."""
        pieces = await ctx.once("pieces of the document", lambda: self._pieces(sample, ctx))
        by_piece = await all_of(
            self._judged(text, passages, statements, spans, ctx) for text, spans, passages in pieces
        )
        judged = [
            max(of_statement, key=lambda one: one.support)
            for of_statement in zip(*(judged for judged, _ in by_piece), strict=True)
        ]
        extra: dict[str, JSON] = {"read": "document", "without_analysis": sum(s.analysis is None for s in judged)}
        if len(pieces) > 1:
            extra["pieces"] = len(pieces)
        if self._which is not None:
            extra["not_located"] = len(frozenset[str]().union(*(unanswered for _, unanswered in by_piece)))
        return judged, extra

    async def _judged(
        self, text: str, passages: Passages | None, statements: Sequence[str], spans: Sequence[Span], ctx: Context
    ) -> tuple[list[JudgedStatement], Set[str]]:
        """A judgement on each statement by one piece, and those without an answer on where the piece supports them."""
        if self._which is None or passages is None:
            return await self._questions.judge(text, statements, spans, ctx), frozenset()
        judged, places = await asyncio.gather(
            self._questions.judge(passages.prompt, statements, spans, ctx),
            self._which.places(passages, statements, ctx),
        )
        located = [
            replace(one, evidence=tuple(spans) if where is None else where)
            for one, where in zip(judged, places, strict=True)
        ]
        return located, {one.text for one, where in zip(judged, places, strict=True) if where is None}

    async def _pieces(self, sample: Sample, ctx: Context) -> list[tuple[str, tuple[Span, ...], Passages | None]]:
        """The whole context, or its pieces with their places; in numbered passages, if the judge is to choose."""
        window = ctx.context_window
        room = None if window is None else max(SMALLEST, int((window - BESIDE) * ROOM))
        if room is None or await asyncio.to_thread(count_tokens, sample.context) <= room:
            return [(sample.context, (), await self._passages(sample, None))]
        chunks = await ctx.chunks(room)
        return [(f"{heading(sample, c)}\n{c.text}".strip(), (c.span,), await self._passages(sample, c)) for c in chunks]

    async def _passages(self, sample: Sample, piece: Chunk | None) -> Passages | None:
        return await asyncio.to_thread(numbered, sample, piece) if self._which else None
