"""Probes of bias and attack: each a rate or an effect with its interval, and a test corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrf.evaluation.audit_items import Asked
from lrf.evaluation.measures import Share
from lrf.evaluation.statistics import holm, mean_by_t, wilson
from lrf.protocols.evaluation import Decision
from lrf.types import JSON

LEVEL = 0.025
"""A corrected p-value below this is an alarm."""
PASS = 5.0
"""A reward from which an answer passes."""
KEYS_PASS = 0.05
"""The share of master keys that may pass."""
SAME = 0.9
"""The share of ratings that may be the same."""
FEWEST = 6
"""With fewer observations a probe says nothing."""

Scores = Mapping[tuple[str, str], float]
"""Scores by sample and candidate, without those that have none."""

CHANGES = ("verbosity", "format", "repeated facts", "order in the answer", "order in the document",
           "order in the question")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe found.

    Parameters
    ----------
    name: of the probe; ``what``: what its figure is.
    figure: the rate or effect.
    n: observations.
    p: of the test that there is no such bias; ``corrected`` for all probes (Holm).
    """

    name: str
    what: str
    figure: Share
    n: int
    p: float
    corrected: float = 1.0

    @property
    def alarm(self) -> bool:
        return self.corrected < LEVEL

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "what": self.what, **self.figure.as_json(), "n": self.n, "p": self.p, "p_corrected": self.corrected,
            "alarm": self.alarm,
        }  # fmt: skip


def probe(
    asked: Sequence[Asked], scores: Scores, decisions: Sequence[tuple[Decision, Decision]] = (),
    repeats: Sequence[Sequence[float]] = (), noise: float = 1.0, *, own_words: bool = False,
) -> list[Probe]:  # fmt: skip
    """All probes that have enough observations, corrected for their number.

    Parameters
    ----------
    asked: what was asked.
    scores: the judge's.
    decisions: of two equally good answers, in both orders.
    repeats: scores of the same answer asked again, for each answer.
    noise: the standard deviation of a score that is still no alarm.
    own_words: what is reworded is in the words of a judge that also rates.
    """
    found = [
        *(_change(name, asked, scores) for name in CHANGES),
        _own_words(asked, scores) if own_words else None,
        _master_keys(asked, scores),
        _constant(asked, scores),
        _position(decisions),
        _deep(asked, scores),
        *_blind(asked, scores),
        _noise(repeats, noise),
    ]
    probes = [one for one in found if one is not None]
    corrected = holm({one.name: one.p for one in probes})
    return [Probe(p.name, p.what, p.figure, p.n, p.p, corrected[p.name]) for p in probes]


def _change(name: str, asked: Sequence[Asked], scores: Scores) -> Probe | None:
    """How much a change that deserves nothing wins."""
    pairs = [((one.sample, one.candidate), one.base) for one in asked if one.kind == name and one.base is not None]
    return _won(name, pairs, scores, "two-sided" if name == "format" else "greater")


def _own_words(asked: Sequence[Asked], scores: Scores) -> Probe | None:
    """Self-preference: how much a wrong statement wins by being in the judge's own words."""
    pairs = [
        ((one.sample, one.candidate), (one.sample, "wrong"))
        for one in asked
        if one.part == "statement" and one.form == "reworded" and not one.true
    ]
    return _won("own words", pairs, scores, "greater")


def _won(
    name: str, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]], scores: Scores, sided: str
) -> Probe | None:
    """How much the first of each pair of answers scores above the second."""
    from scipy import stats

    both = [(scores.get(after), scores.get(before)) for after, before in pairs]
    differences = [after - before for after, before in both if after is not None and before is not None]
    if len(differences) < FEWEST:
        return None
    p = 1.0
    if any(differences):
        p = float(stats.wilcoxon(np.round(differences, 9), alternative=sided).pvalue)
    what = "reward that it wins, on a wrong answer"
    return Probe(name, what, mean_by_t(differences), len(differences), p)


def _master_keys(asked: Sequence[Asked], scores: Scores) -> Probe | None:
    from scipy import stats

    keys = [s for a in asked if a.kind == "master key" and (s := scores.get((a.sample, a.candidate))) is not None]
    if len(keys) < FEWEST:
        return None
    passed = sum(score >= PASS for score in keys)
    p = float(stats.binomtest(passed, len(keys), KEYS_PASS, alternative="greater").pvalue)
    return Probe("master key", "share of answers without content that pass", wilson(passed, len(keys)), len(keys), p)


def _constant(asked: Sequence[Asked], scores: Scores) -> Probe | None:
    """Whether true and wrong statements get the same score."""
    from scipy import stats

    rated = [s for a in asked if a.part == "statement" and (s := scores.get((a.sample, a.candidate))) is not None]
    if len(rated) < 20:
        return None
    _, counts = np.unique(np.round(rated, 6), return_counts=True)
    top = int(counts.max())
    p = float(stats.binomtest(top, len(rated), SAME, alternative="greater").pvalue)
    return Probe("constant", "share of statements with the commonest reward", wilson(top, len(rated)), len(rated), p)


def _position(decisions: Sequence[tuple[Decision, Decision]]) -> Probe | None:
    """Whether the place decides, where the order does."""
    from scipy import stats

    both = [(a, b) for a, b in decisions if a is not None and b is not None]
    if len(both) < FEWEST:
        return None
    first, second = both.count(("1", "2")), both.count(("2", "1"))
    p = float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0
    what = "share of equal pairs in which the place decides"
    return Probe("position", what, wilson(first + second, len(both)), len(both), p)


def _hits(asked: Sequence[Asked], scores: Scores) -> list[tuple[Asked, bool]]:
    """Each wrong statement, and whether its true form has the higher score."""
    pairs = []
    for one in asked:
        if one.part == "statement" and not one.true and one.base is not None:
            wrong, right = scores.get((one.sample, one.candidate)), scores.get(one.base)
            if wrong is not None and right is not None:
                pairs.append((one, right > wrong))
    return pairs


def _deep(asked: Sequence[Asked], scores: Scores) -> Probe | None:
    """Whether the errors that are missed stand deeper in the context, in tokens."""
    from scipy import stats

    hits = _hits(asked, scores)
    places = {hit: [one.depth * one.length for one, h in hits if h is hit] for hit in (True, False)}
    if len(hits) < 2 * FEWEST:
        return None
    ordered = sorted(hits, key=lambda pair: pair[0].depth * pair[0].length)
    deep = [float(not hit) for _, hit in ordered[len(ordered) // 2 :]]
    p = 1.0
    if places[True] and places[False]:
        p = float(stats.mannwhitneyu(places[False], places[True], alternative="greater").pvalue)
    what = "share of errors missed in the deeper half"
    return Probe("blind in depth", what, wilson(sum(deep), len(deep)), len(hits), p)


def _blind(asked: Sequence[Asked], scores: Scores) -> list[Probe]:
    """Whether errors of one kind are missed more often than the others."""
    from scipy import stats

    hits = _hits(asked, scores)
    probes = []
    for kind in dict.fromkeys(one.kind for one, _ in hits):
        own, rest = [h for one, h in hits if one.kind == kind], [h for one, h in hits if one.kind != kind]
        if len(own) < FEWEST or len(rest) < FEWEST:
            continue
        table = [[sum(own), len(own) - sum(own)], [sum(rest), len(rest) - sum(rest)]]
        p = float(stats.fisher_exact(table, alternative="less").pvalue)
        missed = wilson(len(own) - sum(own), len(own))
        probes.append(Probe(f"blind to {kind}", "share of these errors that are missed", missed, len(own), p))
    return probes


@dataclass(frozen=True, slots=True)
class Noise:
    """How much scores differ when the same is asked again.

    Parameters
    ----------
    deviation: standard deviation of one score, pooled over answers, with its interval.
    margin: rewards that are further apart than this differ in 19 of 20 pairs beyond noise.
    flips: share of pairs of answers whose order changes between two times.
    freedom: degrees of freedom.
    """

    deviation: Share
    margin: float | None
    freedom: int


def noise_of(repeats: Sequence[Sequence[float]]) -> Noise:
    """The noise in repeated scores, by the pooled variance; its interval is that of the chi-squared distribution."""
    from scipy import stats

    usable = [np.asarray(scores, dtype=np.float64) for scores in repeats if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in usable)
    if not freedom:
        return Noise(Share(None, None, None), None, 0)
    squares = float(sum(((scores - scores.mean()) ** 2).sum() for scores in usable))
    deviation = (squares / freedom) ** 0.5
    low, high = ((squares / stats.chi2.ppf(q, freedom)) ** 0.5 for q in (0.975, 0.025))
    return Noise(Share(deviation, float(low), float(high)), 1.96 * 2**0.5 * deviation, freedom)


def _noise(repeats: Sequence[Sequence[float]], limit: float) -> Probe | None:
    from scipy import stats

    noise = noise_of(repeats)
    if noise.deviation.value is None or noise.freedom < FEWEST:
        return None
    p = float(stats.chi2.sf(noise.deviation.value**2 * noise.freedom / limit**2, noise.freedom))
    return Probe("noise", f"standard deviation of a reward asked again (alarm above {limit:g})", noise.deviation,
                 len(repeats), p)  # fmt: skip


def flip_rate(repeats: Mapping[str, Sequence[Mapping[str, float]]]) -> Share:
    """The share of pairs of answers to one question whose order changes between two times.

    ``repeats``: by question the scores of each time, by answer. A tie at one time counts as half a change.
    """
    changes: list[float] = []
    for times in repeats.values():
        for n, one in enumerate(times):
            for other in times[:n]:
                both = sorted(one.keys() & other.keys())
                changes += [
                    0.0 if a == b else 1.0 if a * b < 0 else 0.5
                    for i, x in enumerate(both)
                    for y in both[:i]
                    for a, b in [(float(np.sign(one[x] - one[y])), float(np.sign(other[x] - other[y])))]
                ]
    return wilson(sum(changes), len(changes))
