"""Rank correlations, held against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.ranks import kendall, ranks, spearman

few = st.integers(0, 6).map(float)
pairs = st.lists(st.tuples(few, few), min_size=2, max_size=12)


@given(st.lists(few, min_size=1, max_size=20))
def test_a_rank_is_one_more_than_the_smaller_ones_and_half_of_the_equal_ones(values: list[float]) -> None:
    expected = [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]
    assert list(ranks(values)) == expected


@given(pairs)
def test_kendall_counts_concordant_and_discordant_pairs(values: list[tuple[float, float]]) -> None:
    concordant = discordant = x_ties = y_ties = 0
    for (a, b), (c, d) in itertools.combinations(values, 2):
        concordant += (a - c) * (b - d) > 0
        discordant += (a - c) * (b - d) < 0
        x_ties += a == c
        y_ties += b == d
    n = len(values) * (len(values) - 1) / 2
    found = kendall(*zip(*values, strict=True))
    if x_ties == n or y_ties == n:
        assert found is None
    else:
        assert found == pytest.approx((concordant - discordant) / math.sqrt((n - x_ties) * (n - y_ties)))


@given(pairs)
def test_spearman_is_the_correlation_of_the_ranks(values: list[tuple[float, float]]) -> None:
    import numpy as np

    x, y = zip(*values, strict=True)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert spearman(x, y) is None
    else:
        assert spearman(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])


@given(pairs)
def test_both_change_their_sign_with_one_side(values: list[tuple[float, float]]) -> None:
    x, y = zip(*values, strict=True)
    for measure in (spearman, kendall):
        there, back = measure(x, y), measure(x, [-v for v in y])
        assert (there is None and back is None) or there == pytest.approx(-back)


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_values_without_a_partner_are_refused(measure) -> None:
    with pytest.raises(ValueError, match="2 values against 1"):
        measure([1.0, 2.0], [1.0])


def test_a_known_case_from_a_textbook() -> None:
    # ten students' IQ and hours of television a week: ρ = −29/165
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)
