from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.errors import ConfigError
from lrf.protocols import Aggregator
from lrf.testing import check_aggregator, check_plugin
from lrf.testing.strategies import DIMENSIONS, ratings, ratings_maps
from lrf_aggregators.gated import Gated
from lrf_aggregators.mean import Mean, Weighted
from lrf_aggregators.minimum import Minimum
from lrf_aggregators.settings import GatedSettings, MeanSettings, MinimumSettings, WeightedSettings

WEIGHT = st.floats(0, 1e300) | st.sampled_from((0.0, 5e-324, 0.1, 1.0, 1.7e308))


@st.composite
def aggregators(draw: st.DrawFn) -> Aggregator:
    missing = draw(st.sampled_from(("unscored", "skip")))
    weights = draw(st.fixed_dictionaries(dict.fromkeys(DIMENSIONS, WEIGHT)).filter(lambda w: any(w.values())))
    floors = draw(st.dictionaries(st.sampled_from(DIMENSIONS), st.floats(0.5, 10), min_size=1))
    below = draw(st.floats(0, 10))
    return draw(
        st.sampled_from(
            (
                Mean(MeanSettings(missing=missing)),
                Minimum(MinimumSettings(missing=missing)),
                Weighted(WeightedSettings(missing=missing, weights=weights)),
                Gated(GatedSettings(missing=missing, floors=floors, below=below, weights=weights)),
                Gated(GatedSettings(missing=missing, floors=floors, below=below)),
            )
        )
    )


def test_every_component_that_the_plugin_registers_can_be_imported() -> None:
    check_plugin("lrf_aggregators.plugin")


@pytest.mark.parametrize(
    "aggregator",
    [
        Mean(MeanSettings()),
        Mean(MeanSettings(missing="skip")),
        Minimum(MinimumSettings()),
        Minimum(MinimumSettings(missing="skip")),
        Weighted(WeightedSettings(weights={"a": 1, "b": 0, "c": 0.3})),
        Weighted(WeightedSettings(weights={"a": 1, "b": 0, "c": 0.3}, missing="skip")),
        Gated(GatedSettings(floors={"a": 5})),
        Gated(GatedSettings(floors={"a": 5}, missing="skip", below=3)),
    ],
)
def test_the_built_in_aggregators_pass_the_check_for_everyones(aggregator: Aggregator) -> None:
    check_aggregator(aggregator, ("a", "b", "c"))


@given(aggregators(), ratings_maps(missing=False))
def test_a_reward_lies_between_0_and_the_highest_rating(
    aggregator: Aggregator, given_ratings: dict[str, float]
) -> None:
    reward = aggregator.aggregate(given_ratings)
    assert reward is not None
    assert 0 <= reward <= max(given_ratings.values())
    if not isinstance(aggregator, Gated):
        assert reward >= min(given_ratings.values())


@given(aggregators(), ratings_maps(), st.permutations(DIMENSIONS))
def test_their_order_changes_nothing(
    aggregator: Aggregator, given_ratings: dict[str, float | None], order: list[str]
) -> None:
    assert aggregator.aggregate({d: given_ratings[d] for d in order}) == aggregator.aggregate(given_ratings)


@given(aggregators(), ratings_maps(), st.sampled_from(DIMENSIONS), ratings())
def test_a_better_rating_never_makes_a_lower_reward(
    aggregator: Aggregator, given_ratings: dict[str, float | None], dimension: str, other: float
) -> None:
    before = given_ratings[dimension]
    if before is None:
        return
    low = aggregator.aggregate({**given_ratings, dimension: min(before, other)})
    high = aggregator.aggregate({**given_ratings, dimension: max(before, other)})
    if low is not None and high is not None:
        assert low <= high


@given(ratings_maps())
def test_a_missing_dimension_leaves_the_candidate_unscored_by_default(given_ratings: dict[str, float | None]) -> None:
    complete = None not in given_ratings.values()
    weights = dict.fromkeys(DIMENSIONS, 2.0)
    for aggregator in (
        Mean(MeanSettings()),
        Minimum(MinimumSettings()),
        Weighted(WeightedSettings(weights=weights)),
        Gated(GatedSettings(floors={"logicality": 3})),
    ):
        assert (aggregator.aggregate(given_ratings) is not None) == complete


@given(ratings_maps())
def test_with_skip_the_rest_counts_as_if_it_were_all(given_ratings: dict[str, float | None]) -> None:
    rest = {d: r for d, r in given_ratings.items() if r is not None}
    assert Mean(MeanSettings(missing="skip")).aggregate(given_ratings) == Mean(MeanSettings()).aggregate(rest)
    assert Minimum(MinimumSettings(missing="skip")).aggregate(given_ratings) == min(rest.values(), default=None)


@pytest.mark.parametrize("aggregator", [Mean(MeanSettings()), Minimum(MinimumSettings(missing="skip"))])
def test_nothing_makes_no_reward(aggregator: Aggregator) -> None:
    assert aggregator.aggregate({}) is None


def test_the_mean_is_the_papers() -> None:
    assert Mean(MeanSettings()).aggregate({"a": 8, "b": 10, "c": 7, "d": 9}) == 8.5


@given(ratings_maps(missing=False), st.floats(0.01, 100))
def test_only_the_proportions_of_weights_count(given_ratings: dict[str, float], weight: float) -> None:
    equal = Weighted(WeightedSettings(weights=dict.fromkeys(DIMENSIONS, weight))).aggregate(given_ratings)
    assert equal == Mean(MeanSettings()).aggregate(given_ratings)


def test_weights_weigh() -> None:
    aggregator = Weighted(WeightedSettings(weights={"a": 3, "b": 1}))
    assert aggregator.aggregate({"a": 10, "b": 2}) == 8


def test_a_dimension_of_weight_0_may_be_missing() -> None:
    aggregator = Weighted(WeightedSettings(weights={"a": 1, "b": 0}))
    assert aggregator.aggregate({"a": 4, "b": None}) == 4
    assert Weighted(WeightedSettings(weights={"a": 1, "b": 0}, missing="skip")).aggregate({"a": None, "b": 4}) is None


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1}, {"a": math.nan}, {"a": math.inf}])
def test_weights_that_cannot_weigh_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        WeightedSettings(weights=weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "no weight for the dimension 'logicality'; 0 leaves it out"),
        ({"a": 1, "logicalty": 1}, "no dimension 'logicalty'; dimensions: a, logicality; did you mean logicality?"),
    ],
)
def test_weights_that_do_not_match_the_dimensions_are_an_error(weights: dict[str, float], message: str) -> None:
    for aggregator in (
        Weighted(WeightedSettings(weights=weights)),
        Gated(GatedSettings(floors={"a": 1}, weights=weights)),
    ):
        with pytest.raises(ConfigError) as caught:
            aggregator.aggregate({"a": 1.0, "logicality": None})
        assert message in str(caught.value)


def gated(**settings: Any) -> Gated:
    return Gated(GatedSettings.model_validate({"floors": {"a": 5}, **settings}))


@pytest.mark.parametrize(("rating", "reward"), [(5.0, 7.5), (4.9, 0.0), (10.0, 10.0), (0.0, 0.0)])
def test_below_the_floor_the_reward_is_what_below_says(rating: float, reward: float) -> None:
    assert gated().aggregate({"a": rating, "b": 10.0}) == reward


def test_below_is_a_ceiling_and_not_a_gift() -> None:
    assert gated(below=3).aggregate({"a": 4.0, "b": 10.0}) == 3
    assert gated(below=3).aggregate({"a": 1.0, "b": 1.0}) == 1


def test_the_mean_behind_the_gate_can_be_weighted() -> None:
    assert gated(weights={"a": 3, "b": 1}).aggregate({"a": 10.0, "b": 2.0}) == 8


def test_a_gate_without_its_rating_leaves_the_candidate_unscored() -> None:
    aggregator = gated(floors={"a": 5, "b": 5}, missing="skip")
    assert aggregator.aggregate({"a": None, "b": 9.0, "c": 9.0}) is None
    assert aggregator.aggregate({"a": None, "b": 1.0, "c": 9.0}) == 0
    assert aggregator.aggregate({"a": 9.0, "b": 9.0, "c": None}) == 9


def test_a_floor_for_no_dimension_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"aggregator\.floors: no dimension 'aa'; dimensions: a; did you mean a\?"):
        gated(floors={"aa": 5}).aggregate({"a": 1.0})
