"""How well scores agree with people: pairwise accuracy and rank correlations, with intervals.

A score is a number for each candidate of a sample: the reward, a dimension's rating, the answer's length or its place.
Preferences are pairs of candidates of one sample. Intervals are bootstrap intervals over samples, since the pairs of
one sample aren't independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lrf.stages.score.correlation import spearman
from lrf.types import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

REDRAWS = 2000
"""Bootstrap samples of an interval."""
LEVEL = 0.95
FEWEST = 5
"""Fewer samples get no interval: a percentile interval over three would contain the truth two times in three."""
_NUMBERS_AT_ONCE = 4_000_000  # bounds the memory of a bootstrap

Scores = Mapping[str, Mapping[str, float | None]]
"""Scores by sample and candidate; None for a candidate without a score."""

Pair = tuple[str, str, str]
"""(sample, preferred candidate, other candidate)."""


@dataclass(frozen=True, slots=True)
class Share:
    """An average with its 95% interval.

    ``value`` is None without data. ``low`` and ``high`` are None for fewer than :data:`FEWEST` samples, and where all
    samples are alike, since nothing then says how they vary.
    """

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> Mapping[str, JSON]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the preferred candidate has the higher score; a tie counts half.

    ``pairs`` are those of which both candidates have a score, ``unscored`` the others.
    """

    accuracy: Share
    pairs: int
    ties: int
    unscored: int

    def as_json(self) -> Mapping[str, JSON]:
        return {"accuracy": self.accuracy.as_json(), "pairs": self.pairs, "ties": self.ties, "unscored": self.unscored}


def accuracy(pairs: Sequence[Pair], scores: Scores, seed: int) -> Accuracy:
    """The accuracy of the scores over the pairs."""
    right: dict[str, float] = {}
    count: dict[str, float] = {}
    ties = unscored = 0
    for sample, preferred, other in pairs:
        of_sample = scores.get(sample, {})
        high, low = of_sample.get(preferred), of_sample.get(other)
        if high is None or low is None:
            unscored += 1
            continue
        ties += high == low
        right[sample] = right.get(sample, 0.0) + (1.0 if high > low else 0.5 if high == low else 0.0)
        count[sample] = count.get(sample, 0.0) + 1.0
    share = weighted(list(right.values()), list(count.values()), seed)
    return Accuracy(share, len(pairs) - unscored, ties, unscored)


def preferences_of(ratings: Mapping[str, Mapping[str, float]]) -> tuple[list[Pair], int]:
    """Every two candidates of a sample that people rated differently, as pairs; and how many they rated alike."""
    pairs: list[Pair] = []
    alike = 0
    for sample, rated in ratings.items():
        for (a, x), (b, y) in combinations(rated.items(), 2):
            if x == y:
                alike += 1
            else:
                pairs.append((sample, a, b) if x > y else (sample, b, a))
    return pairs, alike


@dataclass(frozen=True, slots=True)
class Correlation:
    """Rank correlations of people's ratings with scores.

    ``spearman`` (ρ) and ``kendall`` (τ-b) are computed within each sample and averaged over the ``samples`` in which
    both sides vary. ``overall`` is Spearman's ρ over all ``candidates`` together, so it also counts differences
    between samples. ``unscored`` candidates have a rating and no score.
    """

    spearman: Share
    kendall: Share
    samples: int
    overall: float | None
    candidates: int
    unscored: int

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "spearman": self.spearman.as_json(),
            "kendall": self.kendall.as_json(),
            "samples": self.samples,
            "overall_spearman": self.overall,
            "candidates": self.candidates,
            "unscored": self.unscored,
        }


def correlation(ratings: Mapping[str, Mapping[str, float]], scores: Scores, seed: int) -> Correlation:
    """The rank correlations of people's ratings with the scores."""
    rho: list[float] = []
    tau: list[float] = []
    people: list[float] = []
    machine: list[float] = []
    unscored = 0
    for sample, rated in ratings.items():
        of_sample = scores.get(sample, {})
        both = [(rating, score) for c, rating in rated.items() if (score := of_sample.get(c)) is not None]
        unscored += len(rated) - len(both)
        x, y = [rating for rating, _ in both], [score for _, score in both]
        people += x
        machine += y
        if (r := spearman(x, y)) is not None and (t := kendall(x, y)) is not None:
            rho.append(r)
            tau.append(t)
    ones = [1.0] * len(rho)
    return Correlation(
        weighted(rho, ones, seed),
        weighted(tau, ones, seed),
        len(rho),
        spearman(people, machine),
        len(people),
        unscored,
    )


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's τ-b, -1 to 1; None where one side doesn't vary. Looks at every two values: for one sample's candidates.

    Raises ValueError for unequal lengths.
    """
    concordance = differ_a = differ_b = 0
    for (a1, b1), (a2, b2) in combinations(zip(a, b, strict=True), 2):
        order_a, order_b = (a1 > a2) - (a1 < a2), (b1 > b2) - (b1 < b2)
        concordance += order_a * order_b
        differ_a += order_a != 0
        differ_b += order_b != 0
    return concordance / math.sqrt(differ_a * differ_b) if differ_a and differ_b else None


def weighted(sums: Sequence[float], weights: Sequence[float], seed: int) -> Share:
    """Σ sums / Σ weights over samples, with the percentile interval of bootstrap samples of the same size."""
    n = len(sums)
    if not n:
        return Share(None, None, None)
    a, b = np.asarray(sums, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    value = float(a.sum() / b.sum())
    if n < FEWEST or (a * b[0] == b * a[0]).all():
        return Share(value, None, None)
    low, high = np.quantile(_redrawn(a, b, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(value, float(low), float(high))


def _redrawn(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Σ a / Σ b of :data:`REDRAWS` bootstrap samples, shape (redraws,)."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // len(a))
    ratios = []
    for start in range(0, REDRAWS, at_once):
        chosen = generator.integers(0, len(a), size=(min(at_once, REDRAWS - start), len(a)))  # (redraws, samples)
        ratios.append(a[chosen].sum(axis=1) / b[chosen].sum(axis=1))
    return np.concatenate(ratios)
