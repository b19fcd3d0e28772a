"""The aggregator ``minimum``."""

from __future__ import annotations

from collections.abc import Mapping

from lrf_aggregators.settings import MinimumSettings


class Minimum:
    """The lowest of the dimensions' ratings."""

    def __init__(self, settings: MinimumSettings) -> None:
        self._missing = settings.missing

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        rated = [r for r in ratings.values() if r is not None]
        if self._missing == "unscored" and len(rated) < len(ratings):
            return None
        return min(rated, default=None)
