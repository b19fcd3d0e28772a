"""The statistics, against their definitions and SciPy."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrf.evaluation.statistics import (
    balanced_accuracy,
    calibration,
    holm,
    kappa,
    krippendorff_alpha,
    mean_with_interval,
    needed_pairs,
    paired,
    wilson,
)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilsons_interval_is_scipys(right: int, n: int) -> None:
    right = min(right, n)
    expected = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    found = wilson(right, n)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_intervals_contain_the_truth_about_as_often_as_they_say() -> None:
    rng = random.Random(1)
    held = {"wilson": 0, "bootstrap": 0}
    for trial in range(300):
        values = [float(rng.random() < 0.7) for _ in range(60)]
        for name, found in (("wilson", wilson(sum(values), 60)), ("bootstrap", mean_with_interval(values, trial))):
            held[name] += found.low is not None and found.low <= 0.7 <= (found.high or 0)
    assert all(0.91 * 300 <= n <= 0.985 * 300 for n in held.values())


@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1, None]), st.sampled_from([0, 1, None])), min_size=1, max_size=40))
def test_two_judges_are_compared_on_what_both_judged(credits) -> None:
    a, b = [x for x, _ in credits], [y for _, y in credits]
    found, turned = paired(a, b), paired(b, a)
    both = [(x, y) for x, y in credits if x is not None and y is not None]
    assert (found.better, found.worse) == (turned.worse, turned.better)
    assert found.better == sum(x > y for x, y in both)
    assert found.p == turned.p
    if both:
        assert found.difference.value == pytest.approx(sum(x - y for x, y in both) / len(both))


def test_so_many_questions_find_the_difference_in_four_of_five_times() -> None:
    better, worse = 0.25, 0.12
    n = needed_pairs(better, worse)
    assert n is not None
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        wins, losses, _ = rng.multinomial(n, [better, worse, 1 - better - worse])
        found += stats.chi2.sf((wins - losses) ** 2 / (wins + losses), 1) < 0.05
    assert 0.74 < found / 400 < 0.86
    assert needed_pairs(0.2, 0.2) is None


def test_holm_multiplies_by_what_is_left_and_keeps_the_order() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "b": 0.06, "c": 0.06}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_balanced_accuracy_weighs_both_classes_alike() -> None:
    assert balanced_accuracy([True] * 9 + [False], [True] * 10) == 0.5
    assert balanced_accuracy([True, True], [True, False]) is None


def test_calibration_is_nought_for_honest_probabilities_and_large_for_boasting_ones() -> None:
    rng = random.Random(0)
    p = [rng.random() for _ in range(20_000)]
    truth = [rng.random() < q for q in p]
    assert (calibration(truth, p).ece or 1) < 0.02
    boasting = calibration([True, False] * 50, [1.0] * 100)
    assert boasting.ece == 0.5
    assert boasting.bins == ((1.0, 0.5, 100),)


def test_krippendorffs_alpha_has_the_value_of_his_worked_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: four observers, twelve units
    n = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]
    units = list(zip(*observers, strict=True))
    assert krippendorff_alpha(units) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None


def test_kappa_of_what_does_not_vary_is_none() -> None:
    assert kappa(["a", "a"], ["a", "a"]) is None
    assert kappa(["a", "b"], ["a", "b"]) == 1
