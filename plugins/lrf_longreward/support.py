"""The labels of verdicts, the support that each gives, and judgements on statements made of answers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.prompting.expectations import Verdict
from lrf.prompting.labels import analysis_of, mark_of
from lrf.prompting.requests import Answer
from lrf.types import JudgedStatement, Span, Vote

SUPPORT: Mapping[str, float] = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("Full support", "完全支持"), "Fully supported"),
    **dict.fromkeys(("Partial support", "Partly supported", "部分支持"), "Partially supported"),
    **dict.fromkeys(("Not supported", "Unsupported", "不支持", "没有支持"), "No support"),
}
"""Other words for the verdicts that judges use. "Supported" alone could be two of them, so it isn't here."""

VERDICT = Verdict(SUPPORT, synonyms=SYNONYMS)
VERDICT_TOKENS, TOKENS_OF_SEVERAL = 512, 192


def judged_by(answer: Answer[Any], text: str, evidence: Sequence[Span]) -> JudgedStatement:
    """A statement with the verdict in an answer: one of the labels, or the probability that it is supported."""
    if not isinstance(answer.value, str):
        return _judged_by_share(answer, text, evidence)
    probabilities = _by_label(answer)
    return JudgedStatement(
        text=text,
        verdict=answer.value,
        support=SUPPORT[answer.value] if probabilities is None else expected_support(probabilities),
        evidence=tuple(evidence),
        analysis=analysis_of(answer),
        probabilities=probabilities,
        votes=answer.votes,
    )


def _judged_by_share(answer: Answer[float], text: str, evidence: Sequence[Span]) -> JudgedStatement:
    """A statement whose support is a probability; the verdict is the nearest label, the lower one of two as near."""
    support = answer.value
    return JudgedStatement(
        text=text,
        verdict=min(SUPPORT, key=lambda label: (abs(SUPPORT[label] - support), SUPPORT[label])),
        support=support,
        evidence=tuple(evidence),
        analysis=analysis_of(answer),
        probabilities=None if answer.reply_mode != "logprobs" else {"yes": support, "no": 1 - support},
        votes=answer.votes,
    )


def vote_support(vote: Vote) -> float:
    """The support, 0 to 1, that one draw of one judge gives."""
    if not isinstance(vote.value, str):
        return float(vote.value)
    if vote.probabilities is not None:
        return expected_support({label: vote.probabilities[mark_of(label)] for label in SUPPORT})
    return SUPPORT[vote.value]


def spread(judged: Sequence[JudgedStatement]) -> float | None:
    """The standard deviation of the ratings that each judge and draw alone would give; None for fewer than two.

    A draw without a verdict on every statement doesn't count.
    """
    by_draw: dict[tuple[str, int], list[float]] = {}
    for vote in (v for s in judged for v in s.votes):
        by_draw.setdefault((vote.judge, vote.repeat), []).append(vote_support(vote))
    ratings = [10 * statistics.fmean(supports) for supports in by_draw.values() if len(supports) == len(judged)]
    return statistics.stdev(ratings) if len(ratings) > 1 else None


def expected_support(probabilities: Mapping[str, float]) -> float:
    """The expectation of the support, 0 to 1, under probabilities of the labels."""
    return sum(SUPPORT[label] * p for label, p in probabilities.items()) / sum(probabilities.values())


def _by_label(answer: Answer[str]) -> Mapping[str, float] | None:
    """The probabilities of the marks as those of the labels; None unless a judge gave some, or several judged."""
    if answer.probabilities is None or (answer.reply_mode != "logprobs" and not answer.votes):
        return None
    return {label: answer.probabilities[mark_of(label)] for label in SUPPORT}
