"""How far the document supports what an answer states (LongReward, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from lrf.errors import Reason, UnscorableError
from lrf.prompting.expectations import Statements
from lrf.protocols import Context
from lrf.types import JSON, Candidate, JudgedStatement, Judgement, Sample
from lrf_longreward.documents import check_documents
from lrf_longreward.explanations import Explanations
from lrf_longreward.prompts import Prompts
from lrf_longreward.second_look import look_again
from lrf_longreward.sentences import sentences
from lrf_longreward.settings import FaithfulnessSettings
from lrf_longreward.statements import distinct
from lrf_longreward.support import spread
from lrf_longreward.verdicts import VerdictCheck
from lrf_longreward.whole_document import DocumentCheck

STATEMENTS_TOKENS = 2048


class Faithfulness:
    """Breaks the answer into factual statements and has each judged on its evidence, or on the whole document.

    The rating is 10 times the mean support of the distinct statements; with ``repeated_statements: each``, of all
    statements.
    """

    def __init__(self, settings: FaithfulnessSettings | None = None) -> None:
        self._settings = settings or FaithfulnessSettings()
        self._prompts = Prompts("statements", self._settings)
        self._verdicts = VerdictCheck(self._settings)
        self._document = DocumentCheck(self._settings)
        self._explanations = Explanations(self._settings)

    @property
    def max_statements(self) -> int:
        """See :class:`lrf.protocols.LimitsStatements`."""
        return self._settings.max_statements

    @property
    def kinds(self) -> tuple[str, ...]:
        """See :class:`lrf.protocols.AsksKinds`."""
        written = ("statements",) if self._settings.statements == "judge" else ()
        chosen = ("choice",) if self._settings.locate == "judge" else ()
        return (*written, "verdict", *chosen, *(("text",) if self.explains else ()))

    @property
    def explains(self) -> bool:
        """See :class:`lrf.protocols.ExplainsLosers`."""
        return self._settings.explain == "losers"

    async def explain(self, sample: Sample, candidate: Candidate, judgement: Judgement, ctx: Context) -> Judgement:
        """See :class:`lrf.protocols.ExplainsLosers`."""
        return await self._explanations.of_statements(sample, judgement, ctx)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        check_documents(sample)
        settings = self._settings
        statements, places, extra = await self._statements(sample, candidate, ctx)
        if not statements:
            if settings.no_statements == "unscored":
                raise UnscorableError(Reason.NO_STATEMENTS, "the answer makes no factual statement")
            return Judgement(rating=settings.no_statements, reply_mode="statements", extra=extra)
        if len(statements) > settings.max_statements:
            raise UnscorableError(
                Reason.TOO_MANY_STATEMENTS,
                f"the answer makes {len(statements)} factual statements; max_statements is {settings.max_statements}",
            )
        judged, counts = await self._judged(sample, statements, ctx)
        if places:
            judged = [replace(statement, in_answer=places.get(statement.text)) for statement in judged]
        # exact, so that answers whose statements are equally supported have equal ratings, however many they are
        rating = float(10 * sum(Fraction(s.support) for s in judged) / len(judged))
        return Judgement(
            rating=rating,
            reply_mode="statements",
            statements=tuple(judged),
            extra={**extra, **counts},
            spread=spread(judged),
        )

    async def _judged(
        self, sample: Sample, statements: Sequence[str], ctx: Context
    ) -> tuple[list[JudgedStatement], dict[str, JSON]]:
        """A judgement on each statement, and what is to be told of how they were made."""
        settings = self._settings
        if settings.read == "document":
            judged, extra = await self._document.judge(sample, statements, ctx)
            if settings.locate == "retriever":
                found = await ctx.evidence(statements, settings.top_k)
                spans = [tuple(chunk.span for chunk in chunks) for chunks in found]
                judged = [replace(one, evidence=where) for one, where in zip(judged, spans, strict=True)]
            return judged, extra
        evidence = await ctx.evidence(statements, settings.top_k)
        claims = list(zip(statements, evidence, strict=True))
        judged = await self._verdicts.judge(sample, claims, ctx)
        counts: dict[str, JSON] = {}
        if settings.second_look != "off":
            judged, looked = await look_again(settings.second_look, sample, claims, judged, self._verdicts, ctx)
            counts |= looked
        return judged, counts

    async def _statements(
        self, sample: Sample, candidate: Candidate, ctx: Context
    ) -> tuple[list[str], Mapping[str, tuple[int, int]], dict[str, JSON]]:
        """The answer's distinct statements, the places of sentences, and how many were left out as repetitions.

        Of a repeated sentence the place is the first one.
        """
        extra: dict[str, JSON] = {}
        places: dict[str, tuple[int, int]] = {}
        stated: Sequence[str]
        if self._settings.statements == "sentences":
            in_order = sentences(candidate.text)
            stated = [sentence.text for sentence in in_order]
            places = {sentence.text: (sentence.start, sentence.end) for sentence in reversed(in_order)}
            extra["statements"] = "sentences"
        else:
            prompt = self._prompts.template(ctx.language).fill({"question": sample.query, "answer": candidate.text})
            stated = (await ctx.ask(prompt, Statements(), max_tokens=STATEMENTS_TOKENS)).value
        statements = list(stated) if self._settings.repeated_statements == "each" else distinct(stated)
        extra["repeated_statements"] = len(stated) - len(statements)
        if self._settings.near_duplicates == "merge":
            statements = distinct(stated, near=True)
            extra["near_duplicates"] = len(stated) - extra["repeated_statements"] - len(statements)
        return statements, places, extra
