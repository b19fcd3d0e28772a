"""The aggregator ``gated``."""

from __future__ import annotations

from collections.abc import Mapping

from lrf_aggregators.mean import check_names, check_weights, weighted_mean
from lrf_aggregators.settings import GatedSettings


class Gated:
    """The mean of all dimensions; where a dimension is below its floor, ``below`` at most.

    "At most" rather than "exactly": so a better rating never makes a lower reward, whatever ``below`` is. With
    ``missing: skip``, a candidate whose gate can't be told (a floored dimension is missing, and no other is below
    its floor) stays unscored. Raises ConfigError for names that are no dimension.
    """

    def __init__(self, settings: GatedSettings) -> None:
        self._floors = settings.floors
        self._below = settings.below
        self._weights = settings.weights
        self._missing = settings.missing

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        check_names(self._floors, ratings, "floors")
        weights = dict.fromkeys(ratings, 1.0) if self._weights is None else self._weights
        check_weights(weights, ratings)
        reward = weighted_mean(ratings, weights, self._missing)
        gates = [(ratings[d], floor) for d, floor in self._floors.items()]
        held_down = any(rating is not None and rating < floor for rating, floor in gates)
        untold = any(rating is None for rating, _ in gates) and (self._missing == "unscored" or not held_down)
        if reward is None or untold:
            return None
        return min(reward, self._below) if held_down else reward
