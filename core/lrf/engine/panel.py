"""One question put to several judges, or several times to one, and the answer made of all replies."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lrf.engine.asked import Asked, Outcome
from lrf.engine.cascade import ask_cascade
from lrf.engine.judge_calls import JudgeCalls
from lrf.errors import UnscorableError
from lrf.prompting.expectations import Ratable, Rating, Verdict, Verdicts, YesOrNo
from lrf.prompting.requests import Answer, Expectation, PanelRule, RatingMode
from lrf.protocols import Dimension
from lrf.types import Vote

Repeats = list[Answer[Any]]


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """How a dimension asks for ratings, verdicts and choices.

    Attributes
    ----------
    rating: the reply mode.
    repeat: how often each judge is asked.
    others: the panel's judges besides the dimension's own.
    panel: how the judges' ratings become one.
    panel_min: how many judges must answer; None for all of them.
    sure: the probability with which a judge of a cascade decides.
    writer: the judge that writes what isn't rated (statements, notes); None for one of those that rate.
    """

    rating: RatingMode = "auto"
    repeat: int = 1
    others: tuple[str, ...] = ()
    panel: PanelRule = "mean"
    panel_min: int | None = None
    sure: float = 0.9
    writer: str | None = None


@dataclass(frozen=True, slots=True)
class NamedDimension:
    """A dimension of the pipeline: its name, the names of the judge and the retriever it asks, and how it asks."""

    name: str
    dimension: Dimension
    judge: str | None = None
    retriever: str | None = None
    asking: PanelSettings = field(default_factory=PanelSettings)

    @property
    def judges(self) -> tuple[str, ...]:
        """The judge and the others of its panel; empty for a dimension that asks no judge."""
        return () if self.judge is None else (self.judge, *self.asking.others)

    def judges_for(self, expects: Expectation[Any]) -> tuple[str, ...]:
        """The names of the judges that are asked for this: those that rate, or the one that writes."""
        writer = self.asking.writer
        return self.judges if writer is None or isinstance(expects, Ratable) else (writer,)


async def ask_panel(judges: Sequence[JudgeCalls], asking: PanelSettings, asked: Sequence[Asked[Any]]) -> list[Outcome]:
    """The outcome of each question: one answer made of those of all judges and repeats, or an error.

    Only ratings, verdicts and choices are asked for more than once; everything else is the first judge's answer. A
    judge has answered a question when all its repeats have. A question fails when fewer judges answered it than
    ``panel_min``.
    """
    if asking.rating != "auto":
        asked = [replace(one, reply_mode=asking.rating) for one in asked]
    if asking.panel == "cascade" and (len(judges) > 1 or asking.writer is None):
        return await ask_cascade(judges, asking.sure, asked)
    once = len(judges) == 1 and asking.repeat == 1
    if once or not all(isinstance(one.expects, Ratable) for one in asked):
        return await judges[0].ask_many(asked)
    repeated = [replace(one, repeat=repeat) for one in asked for repeat in range(asking.repeat)]
    outcomes = await asyncio.gather(*(judge.ask_many(repeated) for judge in judges))
    names = [judge.name for judge in judges]
    return [
        _outcome(one.expects, asking, names, [by_judge[at : at + asking.repeat] for by_judge in outcomes])
        for one, at in zip(asked, range(0, len(repeated), asking.repeat), strict=True)
    ]


def _outcome(
    expects: Any, asking: PanelSettings, names: Sequence[str], repeats: Sequence[Sequence[Outcome]]
) -> Outcome:
    """The answer made of those of all judges and repeats, or the error of the first judge without one."""
    failed = {}
    for name, of_judge in zip(names, repeats, strict=True):
        if (first := next((a for a in of_judge if isinstance(a, UnscorableError)), None)) is not None:
            failed[name] = first
    answered = {
        name: [answer for answer in of_judge if not isinstance(answer, UnscorableError)]
        for name, of_judge in zip(names, repeats, strict=True)
        if name not in failed
    }
    if len(answered) >= (asking.panel_min or len(names)):
        return _pooled(expects, answered, asking.panel)
    name, cause = next(iter(failed.items()))
    detail = cause.detail
    if len(names) > 1:
        detail = f"judge {name}: {detail} ({len(answered)} of {len(names)} judges answered)"
    error = UnscorableError(
        cause.reason,
        detail,
        transient=any(f.transient for f in failed.values()),
        refused=any(f.refused for f in failed.values()),
    )
    error.__cause__ = cause
    return error


def _pooled(expects: Ratable, answered: Mapping[str, Repeats], rule: PanelRule) -> Answer[Any]:
    answers = [answer for repeats in answered.values() for answer in repeats]
    value: Any
    probabilities = None
    if isinstance(expects, Rating | YesOrNo):
        value = combine([statistics.fmean(a.value for a in repeats) for repeats in answered.values()], rule)
    elif isinstance(expects, Verdicts):
        supports = [[expects.labels[label] for label in a.value] for a in answers]
        value = tuple(_nearest(expects.labels, statistics.fmean(column)) for column in zip(*supports, strict=True))
    else:
        probabilities = _mean_probabilities(answers, expects.options)
        if isinstance(expects, Verdict):
            support = sum(expects.labels[option[2:-2]] * p for option, p in probabilities.items())
            value = _nearest(expects.labels, support)
        else:
            value = max(probabilities, key=lambda option: probabilities[option])[2:-2]
    votes = tuple(
        Vote(
            judge, place, a.value if isinstance(a.value, float | str) else list(a.value), a.reply_mode, a.probabilities
        )
        for judge, repeats in answered.items()
        for place, a in enumerate(repeats)
    )
    first = answers[0]
    return Answer(value, first.text, first.reply_mode, sum(a.attempts for a in answers), probabilities, votes)


def combine(ratings: Sequence[float], rule: PanelRule) -> float:
    """One rating made of one rating of each judge; within their range, whatever rounding does."""
    kept = sorted(ratings)
    if rule == "median":
        return statistics.median(kept)
    if rule == "trimmed_mean" and len(kept) > 2:
        kept = kept[1:-1]
    return min(max(statistics.fmean(kept), kept[0]), kept[-1])


def _mean_probabilities(answers: Sequence[Answer[Any]], options: Sequence[str]) -> dict[str, float]:
    """The mean probability of each option; an answer without probabilities is certain of its value."""
    shares = [a.probabilities or {option: float(option == f"[[{a.value}]]") for option in options} for a in answers]
    return {option: statistics.fmean(share[option] for share in shares) for option in options}


def _nearest(labels: Mapping[str, float], support: float) -> str:
    """The label whose support is nearest; the lower one of two as near."""
    return min(labels, key=lambda label: (round(abs(labels[label] - support), 9), labels[label]))


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample, or None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None
