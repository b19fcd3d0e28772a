"""What the trainer says when DPO goes wrong, and that it says nothing when it doesn't."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from lrf_dpo.alarms import LengthCorrelation, alarms

Figures = dict[str, Any]


def said(steps: Iterable[Figures]) -> list[tuple[int, str]]:
    """Each message of the alarms, with the step at which it came."""
    watched = alarms(window=3)
    return [(n, message) for n, step in enumerate(steps) for alarm in watched if (message := alarm.update(step))]


def step(delta: float = 0.0, margin: float = 0.0, accuracy: float = 0.9, length: float | None = None) -> Figures:
    return {"chosen_logp_delta": delta, "margin": margin, "accuracy": accuracy, "length_correlation": length}


def test_chosen_answers_that_fall_while_the_margin_grows_are_said_once() -> None:
    found = said(step(delta=-float(n), margin=0.1 * n) for n in range(20))
    assert [n for n, _ in found] == [7]  # two windows, and found in three steps one after another
    assert "raise ce.weight" in found[0][1]


def test_a_dip_that_the_training_makes_good_is_not_said() -> None:
    deltas = [0.0, 0.0, 0.0, -3.0, -4.0, -1.5, -0.5, 0.0, 0.2, 0.5, 0.5, 0.5]
    assert not said(step(delta=delta, margin=0.1 * n) for n, delta in enumerate(deltas))


@pytest.mark.parametrize(
    ("delta", "margin"),
    [(1.0, 0.1), (-1.0, -0.1), (-0.01, 0.1), (0.0, 0.1)],
    ids=["chosen rises", "margin falls too", "within a nat", "chosen stays"],
)
def test_nothing_is_said_while_the_policy_is_well(delta: float, margin: float) -> None:
    assert not said(step(delta=delta * n, margin=margin * n) for n in range(30))


def test_a_margin_that_few_pairs_make_is_said() -> None:
    found = said(step(margin=0.1 * n, accuracy=0.5) for n in range(20))
    assert len(found) == 1
    assert "only 50% of the pairs are ranked correctly" in found[0][1]


@pytest.mark.parametrize(("correlation", "kind"), [(0.9, "longer"), (-0.9, "shorter")])
def test_a_reward_that_follows_length_is_said(correlation: float, kind: str) -> None:
    found = said(step(length=correlation) for _ in range(20))
    assert len(found) == 1
    assert f"prefer {kind} answers" in found[0][1]


def test_steps_without_a_figure_are_passed_over() -> None:
    assert not said(step(length=None) for _ in range(20))
    assert not said({"chosen_logp_delta": None, "margin": None, "accuracy": None} for _ in range(20))


def test_the_correlation_with_length_is_pearsons() -> None:
    source = random.Random(0)
    longer_by = [source.gauss(0, 50) for _ in range(200)]
    margins = [0.02 * length + source.gauss(0, 1) for length in longer_by]
    found = LengthCorrelation().add([[point] for point in zip(margins, longer_by, strict=True)])
    import numpy as np

    assert found == pytest.approx(float(np.corrcoef(margins, longer_by)[0, 1]), abs=1e-12)


def test_there_is_no_correlation_of_few_pairs_or_of_equal_lengths() -> None:
    assert LengthCorrelation().add([[(1.0, 2.0)]] * 10) is None
    assert LengthCorrelation().add([[(float(n), 2.0)] for n in range(100)]) is None


def test_a_margin_that_is_no_number_is_passed_over() -> None:
    found = LengthCorrelation().add([*([(float(n), float(n))] for n in range(100)), [(float("nan"), 5.0)]])
    assert found == pytest.approx(1)
