"""Whether an answer is consistent and reasons soundly (LongReward, section 3.2)."""

from __future__ import annotations

from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_longreward.answers import rate
from lrf_longreward.on_document import RatedDimension
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import LogicalitySettings


class Logicality(RatedDimension):
    """Rates query and answer: consistency, a steady viewpoint, right reasoning. No document is used by default."""

    def __init__(self, settings: LogicalitySettings | None = None) -> None:
        settings = settings or LogicalitySettings()
        self._prompts = Prompts("logicality", settings)
        super().__init__("logicality", settings, on_document=settings.read == "document")

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        if self._on_document:
            return await self._on_document.score(sample, candidate, ctx)
        template = self._prompts.template(ctx.language)
        return await rate(ctx, template.fill({"question": sample.query, "answer": candidate.text}))
