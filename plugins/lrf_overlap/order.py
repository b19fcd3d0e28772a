"""Whether the places that the parts of a statement have in the evidence are in another order there."""

from __future__ import annotations

from collections.abc import Sequence


def falls_twice(values: Sequence[int]) -> bool:
    """Whether three values, not next to one another in runs, fall: the longest falling subsequence has three blocks."""
    blocks = [v for n, v in enumerate(values) if n == 0 or v != values[n - 1] + 1]
    longest: list[int] = []
    for n, value in enumerate(blocks):
        longest.append(1 + max((longest[m] for m in range(n) if blocks[m] > value), default=0))
    return max(longest, default=0) >= 3


def falls_between(pairs: Sequence[tuple[int, int]], names: set[int]) -> bool:
    """Whether three values fall of which the first and the last are those of names."""
    return any(
        before > value > after
        for n, (first, before) in enumerate(pairs)
        if first in names
        for m in range(n + 2, len(pairs))
        if pairs[m][0] in names and (after := pairs[m][1]) < before
        for _, value in pairs[n + 1 : m]
    )
