"""A check of dimensions, to be called from their own tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lrf.errors import UnscorableError
from lrf.protocols import Dimension, LimitsStatements
from lrf.testing.context import DirectContext
from lrf.testing.example_samples import CANARIES, CHINESE
from lrf.testing.judge import ScriptedJudge
from lrf.testing.require import must, must_be_json, must_be_number
from lrf.types import Candidate, JudgedStatement, Judgement, Sample, Span, Unscored


async def check_dimension(dimension: Dimension, sample: Sample | None = None) -> None:
    """A dimension rates within 0 to 10, or says why it can't, whatever the answer and whatever the judge.

    Also: untrusted text reaches the judge only in untrusted segments; a judge that fails or talks nonsense makes
    no rating; spans lie inside the documents; candidates don't influence one another; judgements can be stored.

    ``sample``, if given, is tried as well, with its own candidates.
    """
    for tried in (CANARIES, CHINESE, *(() if sample is None else (sample,))):
        await _check_scores(dimension, tried)
    await _check_segments(dimension, CANARIES)
    await _check_failing_judge(dimension, ScriptedJudge(lambda _: "I would rather talk about the weather."))
    await _check_failing_judge(dimension, ScriptedJudge(lambda _: ""))


async def _check_scores(dimension: Dimension, sample: Sample) -> None:
    shared = DirectContext(sample)
    together = [await _score(dimension, sample, c, shared) for c in sample.candidates]
    for candidate, outcome in zip(sample.candidates, together, strict=True):
        alone = await _score(dimension, sample, candidate, DirectContext(sample))
        must(alone == outcome, f"the judgement of {candidate.text!r} depends on what was scored before it")
        only = replace(sample, candidates=(candidate,))
        alone = await _score(dimension, only, candidate, DirectContext(only))
        must(alone == outcome, f"the judgement of {candidate.text!r} depends on the sample's other candidates")
        if isinstance(outcome, Judgement):
            _check_judgement(outcome, sample, candidate)
            if isinstance(dimension, LimitsStatements):
                judged, most = len(outcome.statements), dimension.max_statements
                must(judged <= most, f"{judged} statements are judged; max_statements says {most} at most")


async def _check_segments(dimension: Dimension, sample: Sample) -> None:
    judge = ScriptedJudge()
    for candidate in sample.candidates:
        await _score(dimension, sample, candidate, DirectContext(sample, judge))
    for segment in (s for request in judge.requests for s in request.prompt if s.trusted):
        for canary in ("zq-document", "zq-title", "zq-query", "zq-answer"):
            must(
                canary not in segment.text,
                f"a trusted segment of a prompt holds text of the {canary[3:]}; fill templates with Template.fill",
            )


async def _check_failing_judge(dimension: Dimension, judge: ScriptedJudge) -> None:
    sample = Sample("judge", "What was signed?", CANARIES.documents, (Candidate("0", "The contract, in 1997."),))
    context = _CountingContext(sample, judge)
    outcome = await _score(dimension, sample, sample.candidates[0], context)
    if context.asked and context.asked == context.failed:
        must(
            isinstance(outcome, Unscored),
            f"no reply of the judge could be read, and yet there is a judgement: {outcome}; let UnscorableError pass",
        )


class _CountingContext(DirectContext):
    asked = 0
    failed = 0

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        try:
            return await super().ask(*args, **kwargs)
        except UnscorableError:
            self.failed += 1
            raise


async def _score(
    dimension: Dimension, sample: Sample, candidate: Candidate, context: DirectContext
) -> Judgement | Unscored:
    what = f"score() of the answer {candidate.text[:60]!r}"
    try:
        judgement = await dimension.score(sample, candidate, context)
    except UnscorableError as error:
        must(bool(error.reason.strip()), f"{what} raises UnscorableError without a reason")
        return Unscored("", error.reason, error.detail)
    except Exception as error:
        raise AssertionError(
            f"{what} raises {type(error).__name__}: {error}; only UnscorableError may leave a dimension"
        ) from error
    must(isinstance(judgement, Judgement), f"{what} is a {type(judgement).__name__}, no Judgement")
    return judgement


def _check_judgement(judgement: Judgement, sample: Sample, candidate: Candidate) -> None:
    what = f"the judgement of the answer {candidate.text[:60]!r}"
    must(judgement.rating is not None, f"{what} has no rating; raise UnscorableError with a reason")
    must_be_number(judgement.rating, f"{what}: its rating")
    must(0 <= judgement.rating <= 10, f"{what}: the rating {judgement.rating} is not within 0 to 10")
    must_be_json(dict(judgement.extra), f"{what}: extra")
    seen = dict(judgement.seen)
    must(all(0 <= share <= 1 for share in seen.values()), f"{what}: seen is {seen}, no shares")
    for statement in judgement.statements:
        must(isinstance(statement, JudgedStatement), f"{what}: a statement is a {type(statement).__name__}")
    statements = [*judgement.statements, *(s.first for s in judgement.statements if s.first)]
    for statement in statements:
        must(0 <= statement.support <= 1, f"{what}: the support {statement.support} is not within 0 to 1")
    lengths = {d.id: len(d.text) for d in sample.documents}
    spans: list[Span] = [span for s in statements for span in (*s.evidence, *(q.span for q in s.quotations if q.span))]
    spans += [note.span for note in judgement.notes]
    for span in spans:
        inside = span.document in lengths and 0 <= span.start < span.end <= lengths[span.document]
        must(inside, f"{what}: {span} is no part of the sample's documents")
