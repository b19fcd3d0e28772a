"""The dimension ``comparison``: which of two answers is better, asked in one question."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lrf.errors import Reason, UnscorableError
from lrf.prompting.expectations import Choice
from lrf.prompting.labels import analysis_of, mark_of
from lrf.prompting.templates import Template
from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_benchmarks.settings import ComparisonSettings

WORTH = {"A": 10.0, "tie": 5.0, "B": 0.0}
"""The rating of the first answer, by the judge's choice."""


class Comparison:
    """Rates a candidate that is two answers: 10 if its first is better, 0 if its second is, 5 for a tie.

    The answers are the candidate's metadata ``first`` and ``second``; ``lrf bench --compare`` writes such candidates,
    one for each order. With label probabilities the rating is their expectation.
    """

    def __init__(self, settings: ComparisonSettings | None = None) -> None:
        pass

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        first, second = candidate.metadata.get("first"), candidate.metadata.get("second")
        if not isinstance(first, str) or not isinstance(second, str):
            raise UnscorableError(
                Reason.DIMENSION_ERROR, "comparison needs a candidate with the metadata first and second, both texts"
            )
        fields = {"question": sample.query, "context": sample.context, "first": first, "second": second}
        answer = await ctx.ask(_template(ctx.language).fill(fields), Choice(tuple(WORTH)))
        rating = WORTH[answer.value]
        if answer.probabilities is not None:
            rating = sum(worth * answer.probabilities[mark_of(label)] for label, worth in WORTH.items())
        return Judgement(min(rating, 10.0), analysis_of(answer), answer.reply_mode)


@cache
def _template(language: str) -> Template:
    file = Path(__file__).with_name("prompts") / f"{'zh' if language == 'zh' else 'en'}.txt"
    return Template(
        file.read_text(encoding="utf-8").rstrip("\n"), ("question", "context", "first", "second"), str(file)
    )
