"""Statistics that people can defend: intervals, tests between two judges, agreement, calibration and power.

SciPy and scikit-learn are the extra ``bench`` and are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf.evaluation.measures import LEVEL, REDRAWS, Share
from lrf.types import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10
"""Bins of equal width of a calibration."""


def wilson(right: float, n: int) -> Share:
    """The share ``right / n`` with Wilson's 95% interval. ``right`` may have halves, of ties."""
    if not n:
        return Share(None, None, None)
    z = 1.959963984540054
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half))


def mean_with_interval(values: Sequence[float], seed: int) -> Share:
    """The mean with its bootstrap interval; quick, for thousands of values."""
    n = len(values)
    if not n:
        return Share(None, None, None)
    array = np.asarray(values, dtype=np.float64)
    if n < 2 or (array == array[0]).all():
        return Share(float(array.mean()), None, None)
    low, high = np.quantile(_means(array, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(float(array.mean()), float(low), float(high))


def _means(array: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of bootstrap samples, shape (redraws,); a few at a time, so that memory stays flat."""
    generator = np.random.default_rng(seed)
    at_once = max(1, 2_000_000 // len(array))
    parts = [
        array[generator.integers(0, len(array), (min(at_once, REDRAWS - start), len(array)))].mean(axis=1)
        for start in range(0, REDRAWS, at_once)
    ]
    return np.concatenate(parts)


def mean_by_t(values: Sequence[float]) -> Share:
    """The mean with Student's interval."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return Share(values[0] if values else None, None, None)
    array = np.asarray(values, dtype=np.float64)
    mean, half = float(array.mean()), float(stats.t.ppf(0.975, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Share(mean, mean - half, mean + half)


@dataclass(frozen=True, slots=True)
class Paired:
    """Two judges on the same questions.

    Parameters
    ----------
    difference: mean of the first's credits minus the second's, with the interval of a paired bootstrap.
    better, worse: questions on which the first does better, and worse.
    p: McNemar's exact two-sided p-value of these two counts (the sign test, where credits have parts).
    needed: questions until a difference of this size would be found in four of five times (5%, two-sided); None where
        there is no difference.
    """

    difference: Share
    better: int
    worse: int
    p: float
    needed: int | None

    @property
    def is_better(self) -> bool:
        """Whether the first is better beyond chance: by the interval, where there is one, and by the test."""
        low = self.difference.low
        return self.better > self.worse and self.p < 0.05 and (low is None or low > 0)

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "difference": self.difference.as_json(), "better": self.better, "worse": self.worse, "mcnemar_p": self.p,
            "questions_needed": self.needed,
        }  # fmt: skip


def paired(first: Sequence[float | None], second: Sequence[float | None], seed: int = 0) -> Paired:
    """Compare two judges' credits (0 to 1) question by question; those that one of them lacks are left out."""
    from scipy import stats

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    differences = [a - b for a, b in both]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    needed = needed_pairs(better / len(both), worse / len(both)) if both else None
    return Paired(mean_with_interval(differences, seed), better, worse, p, needed)


def needed_pairs(better: float, worse: float) -> int | None:
    """Questions that McNemar's test (5%, two-sided) needs to find a difference in four of five times.

    ``better`` and ``worse`` are the shares of questions on which the first judge does better, and worse. The formula is
    that of Connor (1987). None where the shares are equal.
    """
    from scipy import stats

    difference, discordant = abs(better - worse), better + worse
    if not difference:
        return None
    z, z_power = float(stats.norm.ppf(0.975)), float(stats.norm.ppf(0.8))
    spread = math.sqrt(max(0.0, discordant - difference**2))
    return max(2, math.ceil((z * math.sqrt(discordant) + z_power * spread) ** 2 / difference**2))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values corrected for their number by Holm's method."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - place)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def balanced_accuracy(truth: Sequence[bool], said: Sequence[bool]) -> float | None:
    """The mean of the shares that are right of each class; None where one class is missing."""
    shares = []
    for wanted in (True, False):
        of_class = [s == t for t, s in zip(truth, said, strict=True) if t is wanted]
        if not of_class:
            return None
        shares.append(sum(of_class) / len(of_class))
    return sum(shares) / 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be taken at their word.

    ``ece``: the expected calibration error, the mean distance between probability and share of true ones over the bins,
    weighed by their numbers. ``bins``: of each that isn't empty (mean probability, share of true ones, number).
    """

    ece: float | None
    bins: tuple[tuple[float, float, int], ...]


def calibration(truth: Sequence[bool], probabilities: Sequence[float]) -> Calibration:
    """The calibration of probabilities (0 to 1) that something is true."""
    if not truth:
        return Calibration(None, ())
    p, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    places = np.minimum((p * BINS).astype(int), BINS - 1)
    filled = tuple(
        (float(p[chosen].mean()), float(true[chosen].mean()), int(chosen.sum()))
        for bin_ in range(BINS)
        if (chosen := places == bin_).any()
    )
    ece = sum(n * abs(mean - share) for mean, share, n in filled) / len(p)
    return Calibration(float(ece), filled)


def krippendorff_alpha(ratings: Sequence[Sequence[float | None]]) -> float | None:
    """Krippendorff's alpha of several raters' values on an interval scale; 1 is full agreement, 0 that of chance.

    ``ratings`` has the raters' values for each unit, None where a value is missing. The alpha is None where fewer than
    two units have two values, or nothing varies (Krippendorff, Content Analysis, chapter 12).
    """
    units = [[v for v in unit if v is not None] for unit in ratings]
    units = [unit for unit in units if len(unit) > 1]
    values = np.array([v for unit in units for v in unit], dtype=np.float64)
    if len(units) < 2 or len(set(values.tolist())) < 2:
        return None
    observed = sum(_disagreement(np.array(unit)) / (len(unit) - 1) for unit in units)
    return float(1 - observed / (_disagreement(values) / (len(values) - 1)))


def _disagreement(values: NDArray[np.float64]) -> float:
    """The sum of the squared differences of all ordered pairs of values."""
    return float(2 * (len(values) * (values**2).sum() - values.sum() ** 2))


def kappa(a: Sequence[Any], b: Sequence[Any]) -> float | None:
    """Cohen's kappa of two raters' labels; None where both have only one and the same class."""
    from sklearn.metrics import cohen_kappa_score

    if not a or len({*a, *b}) < 2:
        return None
    return float(cohen_kappa_score([str(x) for x in a], [str(x) for x in b]))
