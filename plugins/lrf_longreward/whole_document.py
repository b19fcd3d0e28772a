"""Statements judged on the whole document: every statement of every candidate is a question on the same material."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lrf.protocols import Context
from lrf.text.chunking import count_tokens
from lrf.types import JSON, JudgedStatement, Sample, Span
from lrf_longreward.answers import all_of
from lrf_longreward.documents import heading
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

    async def judge(
        self, sample: Sample, statements: Sequence[str], ctx: Context
    ) -> tuple[list[JudgedStatement], dict[str, JSON]]:
        """A judgement on each statement, and what was read. Raises :class:`lrf.errors.UnscorableError`."""
        pieces = await ctx.once("pieces of the document", lambda: self._pieces(sample, ctx))
        by_piece = await all_of(self._questions.judge(text, statements, spans, ctx) for text, spans in pieces)
        judged = [max(of_statement, key=lambda one: one.support) for of_statement in zip(*by_piece, strict=True)]
        extra: dict[str, JSON] = {"read": "document", "without_analysis": sum(s.analysis is None for s in judged)}
        if len(pieces) > 1:
            extra["pieces"] = len(pieces)
        return judged, extra

    async def _pieces(self, sample: Sample, ctx: Context) -> list[tuple[str, tuple[Span, ...]]]:
        """The whole context, or its pieces with their places."""
        window = ctx.context_window
        room = None if window is None else max(SMALLEST, int((window - BESIDE) * ROOM))
        if room is None or await asyncio.to_thread(count_tokens, sample.context) <= room:
            return [(sample.context, ())]
        chunks = await ctx.chunks(room)
        return [(f"{heading(sample, c)}\n{c.text}".strip(), (c.span,)) for c in chunks]
