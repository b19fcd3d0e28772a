"""Spearman's rank correlation."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's ρ, -1 to 1; None where one side doesn't vary. Raises ValueError for unequal lengths."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return max(-1.0, min(1.0, statistics.correlation(_ranks(a), _ranks(b))))


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values]
