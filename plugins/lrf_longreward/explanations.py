"""Analyses that are written afterwards, of verdicts and ratings that a judge gave without a word."""

from __future__ import annotations

from dataclasses import replace

from lrf.prompting.expectations import Text
from lrf.prompting.templates import Prompt
from lrf.protocols import Context
from lrf.types import Candidate, Chunk, Document, JudgedStatement, Judgement, Sample
from lrf_longreward.answers import all_of
from lrf_longreward.prompts import Prompts
from lrf_longreward.quotations import located
from lrf_longreward.settings import PromptSettings

MOST_STATEMENTS = 3
"""Statements of an answer that are explained, those with the least support first."""

UNSUPPORTED = 0.5
"""Support up to which a statement costs an answer its rank."""

TOKENS = 400


class Explanations:
    """Has verdicts and ratings explained by a judge that writes. It is told what was decided, and doesn't decide again.

    ``rated``: the dimension whose ratings are explained; None: statements are.
    """

    def __init__(self, settings: PromptSettings, rated: str | None = None) -> None:
        self._statement = Prompts("explain_statement", settings)
        self._rating = Prompts("explain_rating", settings)
        self._criterion = Prompts(f"ask_{rated}", settings) if rated else None

    async def of_statements(self, sample: Sample, judgement: Judgement, ctx: Context) -> Judgement:
        """The judgement with its worst statements explained. Raises :class:`lrf.errors.UnscorableError`."""
        silent = [s for s in judgement.statements if s.analysis is None and s.support <= UNSUPPORTED]
        worst = sorted(silent, key=lambda s: s.support)[:MOST_STATEMENTS]
        whole = judgement.extra.get("read") == "document" and "pieces" not in judgement.extra
        written = await all_of(self._of_statement(sample, statement, ctx, whole=whole) for statement in worst)
        by_text = {statement.text: statement for statement in written}
        statements = tuple(by_text.get(s.text, s) for s in judgement.statements)
        return _with_extra(
            replace(judgement, statements=statements), len(written), sum(not s.analysis for s in statements)
        )

    async def _of_statement(
        self, sample: Sample, statement: JudgedStatement, ctx: Context, *, whole: bool
    ) -> JudgedStatement:
        """The statement, explained on what it was judged on: the ``whole`` document, or its evidence."""
        texts = {document.id: document.text for document in sample.documents}
        seen = [Chunk(s.document, s.start, s.end, texts[s.document][s.start : s.end]) for s in statement.evidence]
        context = sample.context if whole else "\n\n".join(chunk.text for chunk in seen) or sample.context
        prompt = self._statement.template(ctx.language).fill({"context": context, "statement": statement.text})
        analysis = await _written(prompt, ctx)
        where = seen or [_whole(document) for document in sample.documents]
        return replace(
            statement, analysis=analysis, quotations=await located(analysis, statement.text, where, sample, ctx)
        )

    async def of_rating(self, sample: Sample, candidate: Candidate, judgement: Judgement, ctx: Context) -> Judgement:
        """The judgement with its rating explained. Raises :class:`lrf.errors.UnscorableError`."""
        if judgement.analysis or self._criterion is None:
            return judgement
        prompt = self._rating.template(ctx.language).fill(
            {
                "context": sample.context,
                "question": sample.query,
                "answer": candidate.text,
                "criterion": self._criterion.template(ctx.language).fill({}),
                "rating": f"{judgement.rating:.1f}",
            }
        )
        return _with_extra(replace(judgement, analysis=await _written(prompt, ctx)), 1, 0)


async def _written(prompt: Prompt, ctx: Context) -> str:
    return (await ctx.ask(prompt, Text(), max_tokens=TOKENS)).value


def _with_extra(judgement: Judgement, explained: int, without: int) -> Judgement:
    """The judgement with the number of analyses that were written afterwards, and of those that are missing."""
    return replace(judgement, extra={**judgement.extra, "explained": explained, "without_analysis": without})


def _whole(document: Document) -> Chunk:
    return Chunk(document.id, 0, len(document.text), document.text)
