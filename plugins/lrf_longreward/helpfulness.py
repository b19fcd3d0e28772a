"""How well an answer serves the person who asked (LongReward, section 3.2)."""

from __future__ import annotations

from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_longreward.answers import rate
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import HelpfulnessSettings


class Helpfulness:
    """Rates query and answer: relevance, purpose and need, depth, form. The document isn't shown."""

    def __init__(self, settings: HelpfulnessSettings | None = None) -> None:
        self._prompts = Prompts("helpfulness", settings or HelpfulnessSettings())

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        template = self._prompts.template(ctx.language)
        return await rate(ctx, template.fill({"question": sample.query, "answer": candidate.text}))
