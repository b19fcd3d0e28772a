"""Rating by one short question on the document, the query and the answer: for judges that decide."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Rating
from lrf.prompting.labels import analysis_of
from lrf.prompting.questions import Question
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt, Segment, Template
from lrf.protocols import Context
from lrf.types import JSON, Candidate, Judgement, Sample
from lrf_longreward.explanations import Explanations
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import Language, RatedSettings

_ANSWER = Template("<answer>\n<<answer>>\n</answer>", ("answer",), name="answer")
_ABOUT: dict[Language, str] = {"en": "On answer {} alone: ", "zh": "只看第{}个回答："}


class RatedOnDocument:
    """Asks for a rating on the document. Dimensions that ask so of one answer share its material, and a request.

    With ``pack_candidates`` the material holds the answers of all candidates, numbered from 1; of a few samples each
    answer is rated alone, too, so that a run says what packing does to its ratings.
    """

    def __init__(self, name: str, settings: RatedSettings) -> None:
        self._packs, self._checked = settings.pack_candidates, settings.pack_checked
        self._material = Prompts("document_answer", settings)
        self._question = Prompts(f"ask_{name}", settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        """The candidate's judgement. Raises :class:`lrf.errors.UnscorableError`."""
        asked = self._question.template(ctx.language).fill({})
        alone: Prompt = _ANSWER.fill({"answer": candidate.text})
        if not self._packs:
            return self._judgement(await self._rating(sample, alone, asked, ctx), {"read": "document"})
        number = 1 + [c.id for c in sample.candidates].index(candidate.id)
        about = (Segment(_ABOUT[self._question.language(ctx.language)].format(number)), *asked)
        ways = [self._rating(sample, _all_answers(sample), about, ctx)]
        if _is_among(self._checked, sample.id):
            ways.append(self._rating(sample, alone, asked, ctx))
        answer, *others = await asyncio.gather(*ways)
        extra: dict[str, JSON] = {"read": "document", "packed_candidates": len(sample.candidates)}
        judgement = self._judgement(answer, extra)
        for other in others:
            if not isinstance(other, UnscorableError):
                judgement = replace(judgement, extra={**judgement.extra, **_beside(judgement.rating, other.value)})
        return judgement

    async def _rating(
        self, sample: Sample, answers: Prompt, asked: Prompt, ctx: Context
    ) -> Answer[float] | UnscorableError:
        values: dict[str, str | Prompt] = {"context": sample.context, "question": sample.query, "answer": answers}
        material = self._material.template(ctx.language).fill(values)
        (answer,) = await ctx.ask_many(material, [Question(asked, Rating())])
        return answer

    def _judgement(self, answer: Answer[float] | UnscorableError, extra: dict[str, JSON]) -> Judgement:
        if isinstance(answer, UnscorableError):
            raise answer
        analysis = analysis_of(answer)
        extra["without_analysis"] = int(analysis is None)
        return Judgement(rating=answer.value, analysis=analysis, reply_mode=answer.reply_mode, extra=extra)


def _is_among(share: float, sample: str) -> bool:
    """Whether a sample is among this share of all; by a hash of its id, so that a resumed run asks the same."""
    drawn = int.from_bytes(hashlib.sha256(f"packed {sample}".encode("utf-8", "replace")).digest()[:4])
    return drawn < share * 2**32


def _beside(packed: float, alone: float) -> Mapping[str, JSON]:
    """What is kept of a rating in a pack and alone. The whole numbers are added up in the run's summary."""
    off = abs(packed - alone)
    return {"rating_alone": alone, "asked_alone": 1, "off_by_half": int(off >= 0.5), "off_by_one": int(off >= 1)}


class RatedDimension:
    """A dimension that one question on the document can rate, and whose rating can be explained afterwards."""

    def __init__(self, name: str, settings: RatedSettings, *, on_document: bool) -> None:
        self._on_document = RatedOnDocument(name, settings) if on_document else None
        self._explanations = Explanations(settings, name) if settings.explain == "losers" else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """See :class:`lrf.protocols.AsksKinds`."""
        return ("rating", "text") if self.explains else ("rating",)

    @property
    def explains(self) -> bool:
        """See :class:`lrf.protocols.ExplainsLosers`."""
        return self._explanations is not None

    async def explain(self, sample: Sample, candidate: Candidate, judgement: Judgement, ctx: Context) -> Judgement:
        """See :class:`lrf.protocols.ExplainsLosers`."""
        if self._explanations is None:
            return judgement
        return await self._explanations.of_rating(sample, candidate, judgement, ctx)


def _all_answers(sample: Sample) -> Prompt:
    """The answers of all candidates, each in a numbered frame."""
    segments: list[Segment] = []
    for number, candidate in enumerate(sample.candidates, start=1):
        frame = Template(f'<answer n="{number}">\n<<answer>>\n</answer>\n', ("answer",), name="answer")
        segments += frame.fill({"answer": candidate.text})
    return tuple(segments)
