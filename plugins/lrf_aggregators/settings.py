"""Settings of the aggregators."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lrf.settings import Settings

Missing = Literal["unscored", "skip"]


class AggregatorSettings(Settings):
    """Settings that all aggregators have."""

    missing: Missing = Field(
        default="unscored",
        description="A dimension without a rating: the candidate stays unscored, or the dimension is skipped. "
        "Rewards with skipped dimensions don't compare well with others.",
    )


class MeanSettings(AggregatorSettings):
    """Settings of the aggregator ``mean``."""


class MinimumSettings(AggregatorSettings):
    """Settings of the aggregator ``minimum``."""


def _one_above_zero(weights: dict[str, float]) -> dict[str, float]:
    if not any(weights.values()):
        raise ValueError("at least one weight must be above 0")
    return weights


Weights = Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_one_above_zero)]


class WeightedSettings(AggregatorSettings):
    """Settings of the aggregator ``weighted``."""

    weights: Weights = Field(
        description="A weight of 0 or more for every dimension; only their proportions count. 0 leaves one out."
    )


class GatedSettings(AggregatorSettings):
    """Settings of the aggregator ``gated``."""

    floors: dict[str, Annotated[float, Field(gt=0, le=10)]] = Field(
        min_length=1, description="The lowest rating, up to 10, that a dimension may have."
    )
    below: float = Field(
        default=0.0, ge=0, le=10, description="The reward of a candidate below a floor is this at most."
    )
    weights: Weights | None = Field(
        default=None, description="Weights of the mean of all dimensions, as in weighted; the plain mean without it."
    )
