"""Rating by one short question on the document, the query and the answer: for judges that decide."""

from __future__ import annotations

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Rating
from lrf.prompting.questions import Question
from lrf.prompting.templates import Prompt, Segment, Template
from lrf.protocols import Context
from lrf.types import JSON, Candidate, Judgement, Sample
from lrf_longreward.answers import analysis_of
from lrf_longreward.explanations import Explanations
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import Language, RatedSettings

_ANSWER = Template("<answer>\n<<answer>>\n</answer>", ("answer",), name="answer")
_ABOUT: dict[Language, str] = {"en": "On answer {} alone: ", "zh": "只看第{}个回答："}


class RatedOnDocument:
    """Asks for a rating on the document. Dimensions that ask so of one answer share its material, and a request.

    With ``pack_candidates`` the material holds the answers of all candidates, numbered from 1.
    """

    def __init__(self, name: str, settings: RatedSettings) -> None:
        self._packs = settings.pack_candidates
        self._material = Prompts("document_answer", settings)
        self._question = Prompts(f"ask_{name}", settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        """The candidate's judgement. Raises :class:`lrf.errors.UnscorableError`."""
        template, asked = self._material.template(ctx.language), self._question.template(ctx.language).fill({})
        extra: dict[str, JSON] = {"read": "document"}
        answers: Prompt = _ANSWER.fill({"answer": candidate.text})
        if self._packs:
            answers = _all_answers(sample)
            number = 1 + [c.id for c in sample.candidates].index(candidate.id)
            asked = (Segment(_ABOUT[self._question.language(ctx.language)].format(number)), *asked)
            extra["packed_candidates"] = len(sample.candidates)
        material = template.fill({"context": sample.context, "question": sample.query, "answer": answers})
        (answer,) = await ctx.ask_many(material, [Question(asked, Rating())])
        if isinstance(answer, UnscorableError):
            raise answer
        analysis = analysis_of(answer)
        extra["without_analysis"] = int(analysis is None)
        return Judgement(rating=answer.value, analysis=analysis, reply_mode=answer.reply_mode, extra=extra)


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
