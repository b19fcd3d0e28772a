"""Whether an answer is consistent and reasons soundly (LongReward, section 3.2)."""

from __future__ import annotations

from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_longreward.answers import rate
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import LogicalitySettings


class Logicality:
    """Rates query and answer: consistency, a steady viewpoint, right reasoning and calculation. No document is used."""

    def __init__(self, settings: LogicalitySettings | None = None) -> None:
        self._prompts = Prompts("logicality", settings or LogicalitySettings())

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        template = self._prompts.template(ctx.language)
        return await rate(ctx, template.fill({"question": sample.query, "answer": candidate.text}))
