"""How well an answer serves the person who asked (LongReward, section 3.2)."""

from __future__ import annotations

from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_longreward.answers import rate
from lrf_longreward.on_document import RatedDimension
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import HelpfulnessSettings


class Helpfulness(RatedDimension):
    """Rates query and answer: relevance, purpose and need, depth, form. The document isn't shown by default."""

    def __init__(self, settings: HelpfulnessSettings | None = None) -> None:
        settings = settings or HelpfulnessSettings()
        self._prompts = Prompts("helpfulness", settings)
        super().__init__("helpfulness", settings, on_document=settings.read == "document")

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        if self._on_document:
            return await self._on_document.score(sample, candidate, ctx)
        template = self._prompts.template(ctx.language)
        return await rate(ctx, template.fill({"question": sample.query, "answer": candidate.text}))
