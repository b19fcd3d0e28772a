"""Rewards within a group of answers to one prompt: by rank, centred, clipped, freed of the answers' lengths."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rewards of a group become what the trainer gets. A missing reward stays missing and counts nowhere.

    Parameters
    ----------
    scale: "reward": as they are; "centred": minus the group's mean; "rank": from -1 (the worst) to 1 (the best), ties
        at their mean rank, 0 where all are alike.
    length_controlled: first take out what a straight line over the answers' lengths explains within the group (least
        squares), so that being long alone gains nothing. Needs three rewards of different lengths.
    clip: the lowest and the highest value, applied at the end.
    """

    scale: Literal["reward", "centred", "rank"] = "reward"
    length_controlled: bool = False
    clip: tuple[float, float] | None = None

    def __call__(self, rewards: Sequence[float | None], lengths: Sequence[int]) -> list[float | None]:
        """The shaped rewards of one group. ``lengths`` are the answers', in any unit."""
        there = [i for i, reward in enumerate(rewards) if reward is not None]
        values = [reward for reward in rewards if reward is not None]
        if self.length_controlled:
            values = _without_length(values, [lengths[i] for i in there])
        if self.scale == "centred" and values:
            mean = statistics.fmean(values)
            values = [value - mean for value in values]
        if self.scale == "rank":
            values = _ranks(values)
        if self.clip is not None:
            low, high = self.clip
            values = [min(high, max(low, value)) for value in values]
        shaped: list[float | None] = [None] * len(rewards)
        for i, value in zip(there, values, strict=True):
            shaped[i] = value
        return shaped


PLAIN = Shape()
"""Rewards as they are."""


def _without_length(values: list[float], lengths: list[int]) -> list[float]:
    if len(values) < 3 or len(set(lengths)) < 2:
        return values
    slope, _ = statistics.linear_regression(lengths, values)
    middle = statistics.fmean(lengths)
    return [value - slope * (length - middle) for value, length in zip(values, lengths, strict=True)]


def _ranks(values: list[float]) -> list[float]:
    if len(set(values)) < 2:
        return [0.0] * len(values)
    below = [sum(other < value for other in values) for value in values]
    alike = [values.count(value) for value in values]
    return [2 * (b + (a - 1) / 2) / (len(values) - 1) - 1 for b, a in zip(below, alike, strict=True)]
