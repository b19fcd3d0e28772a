"""The books, and a budget that is reserved before it is spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.budget import Budget, BudgetLedger
from lrf.errors import BudgetError
from lrf.prompting.requests import Usage


def test_what_dimensions_cost_is_kept_apart_and_adds_up() -> None:
    ledger = BudgetLedger()
    for dimension, tokens in (("a", 10), ("b", 20), ("a", 5)):
        ledger.reserve(100)
        ledger.settle(dimension, 100, Usage(tokens, 1, 2))
    assert ledger.lines["a"].prompt_tokens == 15
    assert ledger.total().calls == 3
    by_dimension = ledger.as_json()["by_dimension"]
    assert by_dimension["b"] == {**by_dimension["b"], "calls": 1, "prompt_tokens": 20, "cached_tokens": 2}


def test_cached_tokens_are_a_part_of_the_prompts_tokens_and_not_counted_twice() -> None:
    ledger = BudgetLedger(Budget(tokens=100))
    ledger.reserve(90)
    ledger.settle("a", 90, Usage(prompt_tokens=80, completion_tokens=10, cached_tokens=80))
    ledger.reserve(10)
    with pytest.raises(BudgetError):
        ledger.reserve(1)


def test_of_a_reply_without_usage_the_most_counts_against_the_budget() -> None:
    ledger = BudgetLedger(Budget(tokens=250, money=1000))
    for _ in range(2):
        ledger.reserve(100, 10)
        ledger.settle("a", 100, Usage(), 10)
    with pytest.raises(BudgetError, match="200 used"):
        ledger.reserve(100, 10)
    assert ledger.total().prompt_tokens == 0  # what is reported is what the server told


def test_a_call_without_a_reply_is_a_fault_and_costs_nothing() -> None:
    ledger = BudgetLedger(Budget(calls=1, tokens=100))
    for _ in range(3):
        ledger.reserve(100)
        ledger.settle("a", 100, None)
    assert ledger.total().faults == 3
    assert ledger.total().calls == 0


def test_the_next_call_is_refused_when_it_could_cross_the_budget() -> None:
    ledger = BudgetLedger(Budget(tokens=100))
    ledger.reserve(60)
    with pytest.raises(BudgetError, match=r"100 tokens could be overrun.*0 used, 60 set aside, 41 needed"):
        ledger.reserve(41)
    ledger.settle("a", 60, Usage(20, 10, 0))
    ledger.reserve(41)


def test_a_budget_of_calls_counts_those_in_flight() -> None:
    ledger = BudgetLedger(Budget(calls=2))
    ledger.reserve(0)
    ledger.reserve(0)
    with pytest.raises(BudgetError, match="2 calls"):
        ledger.reserve(0)


@given(
    budget=st.integers(0, 500),
    most_calls=st.integers(0, 20),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.floats(0, 1), st.booleans()), max_size=60),
)
def test_no_order_of_reserving_and_settling_spends_more_than_the_budget(
    budget: int, most_calls: int, steps: list[tuple[bool, int, float, bool]]
) -> None:
    ledger = BudgetLedger(Budget(calls=most_calls, tokens=budget))
    in_flight: list[int] = []
    for begins, worst, share, replies in steps:
        if begins or not in_flight:
            try:
                ledger.reserve(worst)
            except BudgetError:
                continue
            in_flight.append(worst)
        else:
            reserved = in_flight.pop(0)
            used = int(reserved * share)
            ledger.settle("a", reserved, Usage(used // 2, used - used // 2, 0) if replies else None)
        total = ledger.total()
        assert total.prompt_tokens + total.completion_tokens + sum(in_flight) <= budget
        assert total.calls + len(in_flight) <= most_calls
