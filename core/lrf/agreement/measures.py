"""How well scores agree with people: pairwise accuracy and rank correlations, with intervals.

A score is a number for each candidate of a sample, whatever it comes from: the reward, a dimension's rating, the
answer's length, its place. Preferences are pairs of candidates of one sample. Intervals are bootstrap intervals over
samples, since the pairs of one sample aren't independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lrf.ranks import kendall, spearman
from lrf.types import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95
FEWEST = 5
"""Of fewer samples there is no interval: of three, such an interval holds the truth two times in three."""
_AT_ONCE = 4_000_000  # numbers drawn at a time

Scores = Mapping[str, Mapping[str, float | None]]
"""By sample and candidate; None where there is no score."""

Pair = tuple[str, str, str]
"""(sample, preferred candidate, other candidate)."""


@dataclass(frozen=True, slots=True)
class Share:
    """An average with its interval.

    None where there is nothing to average; no interval where there are fewer than :data:`FEWEST` samples, or where all
    are alike, so that nothing says how they vary.
    """

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> Mapping[str, JSON]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the preferred candidate has the higher score; a tie counts half."""

    accuracy: Share
    pairs: int
    ties: int
    unscored: int

    def as_json(self) -> Mapping[str, JSON]:
        return {"accuracy": self.accuracy.as_json(), "pairs": self.pairs, "ties": self.ties, "unscored": self.unscored}


def accuracy(pairs: Sequence[Pair], scores: Scores, seed: int) -> Accuracy:
    """Over the pairs of which both candidates have a score; the others are counted as unscored."""
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
    """Spearman's ρ and Kendall's τ-b: within each sample and averaged, over samples where both sides vary.

    ``overall`` is Spearman's ρ over all candidates together: it also counts which sample a candidate is of.
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
    """Of people's ratings with the scores."""
    rho: list[float] = []
    tau: list[float] = []
    people: list[float] = []
    machine: list[float] = []
    unscored = 0
    for sample, rated in ratings.items():
        found = {c: s for c in rated if (s := scores.get(sample, {}).get(c)) is not None}
        unscored += len(rated) - len(found)
        x, y = [rated[c] for c in found], list(found.values())
        people += x
        machine += y
        if len(x) > 1 and (r := spearman(x, y)) is not None and (t := kendall(x, y)) is not None:
            rho.append(r)
            tau.append(t)
    ones = [1.0] * len(rho)
    return Correlation(
        weighted(rho, ones, seed),
        weighted(tau, ones, seed),
        len(rho),
        spearman(people, machine) if people else None,
        len(people),
        unscored,
    )


def weighted(sums: Sequence[float], weights: Sequence[float], seed: int) -> Share:
    """Σ sums / Σ weights over samples, with the interval between the percentiles of as many redrawn samples."""
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
    """Σ a / Σ b of :data:`DRAWS` draws of as many samples, with replacement."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // len(a))
    found = []
    for start in range(0, DRAWS, at_once):
        drawn = generator.integers(0, len(a), size=(min(at_once, DRAWS - start), len(a)))  # (draws, samples)
        found.append(a[drawn].sum(axis=1) / b[drawn].sum(axis=1))
    return np.concatenate(found)
