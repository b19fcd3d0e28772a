"""The aggregators ``mean`` and ``weighted``."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lrf.errors import ConfigError
from lrf.plugin.suggest import did_you_mean
from lrf_aggregators.settings import MeanSettings, Missing, WeightedSettings


def weighted_mean(ratings: Mapping[str, float | None], weights: Mapping[str, float], missing: Missing) -> float | None:
    """The mean of the ratings under these weights (any scale, each 0 or more).

    Dimensions of weight 0 don't count, whether they are rated or not. None when a dimension that counts has no
    rating and ``missing`` is "unscored", or when there is nothing to take the mean of. Neither the order of the
    dimensions nor rounding shows: the result lies between the lowest and the highest rating.
    """
    counting = {d: rating for d, rating in ratings.items() if weights[d] > 0}
    rated = {d: rating for d, rating in counting.items() if rating is not None}
    if not rated or (missing == "unscored" and len(rated) < len(counting)):
        return None
    top = max(weights[d] for d in rated)
    total = math.fsum(weights[d] / top for d in rated)
    mean = math.fsum(weights[d] / top * rating for d, rating in rated.items()) / total
    return min(max(mean, min(rated.values())), max(rated.values()))


def check_names(named: Mapping[str, float], ratings: Mapping[str, float | None], setting: str) -> None:
    """Raises ConfigError for a name in a setting that isn't a dimension of the pipeline."""
    for name in named:
        if name not in ratings:
            hint = did_you_mean(name, ratings)
            raise ConfigError(f"aggregator.{setting}: no dimension {name!r}; dimensions: {', '.join(ratings)}{hint}")


def check_weights(weights: Mapping[str, float], ratings: Mapping[str, float | None]) -> None:
    """Raises ConfigError unless each dimension of the pipeline has a weight, and nothing else has one."""
    check_names(weights, ratings, "weights")
    for dimension in ratings:
        if dimension not in weights:
            raise ConfigError(f"aggregator.weights: no weight for the dimension {dimension!r}; 0 leaves it out")


class Mean:
    """The plain mean of all dimensions (LongReward, section 3.1)."""

    def __init__(self, settings: MeanSettings) -> None:
        self._missing = settings.missing

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return weighted_mean(ratings, dict.fromkeys(ratings, 1.0), self._missing)


class Weighted:
    """The mean with a weight for each dimension. Raises ConfigError when weights and dimensions don't match."""

    def __init__(self, settings: WeightedSettings) -> None:
        self._weights = settings.weights
        self._missing = settings.missing

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        check_weights(self._weights, ratings)
        return weighted_mean(ratings, self._weights, self._missing)
