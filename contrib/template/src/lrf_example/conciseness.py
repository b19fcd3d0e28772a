"""The dimension ``conciseness``."""

from __future__ import annotations

from lrf.prompting.expectations import Rating
from lrf.prompting.templates import Template
from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_example.settings import ConcisenessSettings

PROMPT = Template(
    """You rate how concise an answer is, and nothing else.

10: every sentence is needed. 5: about half could go without loss. 0: nothing in it serves the question.
First say in one or two sentences what could go, then end with your rating, a number from 0 to 10, as [[rating]].

<question>
<<question>>
</question>
<answer>
<<answer>>
</answer>
Your analysis and rating:
""",
    fields=("question", "answer"),
    name="conciseness",
)


class Conciseness:
    """Asks the judge how much of the answer could go without loss."""

    def __init__(self, settings: ConcisenessSettings | None = None) -> None:
        self._settings = settings or ConcisenessSettings()

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        prompt = PROMPT.fill({"question": sample.query, "answer": candidate.text})
        answer = await ctx.ask(prompt, Rating(), max_tokens=self._settings.max_tokens)
        return Judgement(rating=answer.value, analysis=answer.text, reply_mode=answer.reply_mode)
