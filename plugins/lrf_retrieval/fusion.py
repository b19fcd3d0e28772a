"""Reciprocal rank fusion: one ranking of several (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Sequence

K = 60
"""The paper's constant: how little the first places count more than the next."""


def fuse(rankings: Sequence[Sequence[int]], most: int) -> list[int]:
    """The numbers with the highest sum of 1 / (K + rank), ranks from 1, best first.

    Of equal sums the one that stands higher in an earlier ranking comes first, so the outcome depends on nothing else.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] = scores.get(number, 0.0) + 1 / (K + rank)
    order = {number: place for place, number in enumerate(scores)}
    return sorted(scores, key=lambda number: (-round(scores[number], 12), order[number]))[:most]
