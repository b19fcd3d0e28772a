"""What a run takes is counted, and its budget is reserved before it is spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.budget import Budget, BudgetLedger, Reservation
from lrf.errors import BudgetError
from lrf.prompting.requests import Usage


def one_call(tokens: int = 0, money: int = 0) -> Reservation:
    return Reservation(1, tokens, money)


def test_what_dimensions_cost_is_counted_apart_and_adds_up() -> None:
    ledger = BudgetLedger()
    for dimension, tokens in (("a", 10), ("b", 20), ("a", 5)):
        ledger.reserve(one_call(100))
        ledger.settle(dimension, one_call(100), [Usage(tokens, 1, 2)])
    assert ledger.lines["a"].prompt_tokens == 15
    assert ledger.total().calls == 3
    by_dimension = ledger.as_json()["by_dimension"]
    assert by_dimension["b"] == {**by_dimension["b"], "calls": 1, "prompt_tokens": 20, "cached_tokens": 2}


def test_cached_tokens_are_a_part_of_the_prompts_tokens_and_not_counted_twice() -> None:
    ledger = BudgetLedger(Budget(tokens=100))
    ledger.reserve(one_call(90))
    ledger.settle("a", one_call(90), [Usage(prompt_tokens=80, completion_tokens=10, cached_tokens=80)])
    ledger.reserve(one_call(10))
    with pytest.raises(BudgetError):
        ledger.reserve(one_call(1))


def test_of_a_reply_without_usage_the_worst_case_counts_against_the_budget() -> None:
    ledger = BudgetLedger(Budget(tokens=250, money=1000))
    for _ in range(2):
        ledger.reserve(one_call(100, 10))
        ledger.settle("a", one_call(100, 10), [Usage()])
    with pytest.raises(BudgetError, match="200 used"):
        ledger.reserve(one_call(100, 10))
    assert ledger.total().prompt_tokens == 0  # what is reported is what the server reported


def test_a_call_that_the_server_refused_is_a_fault_and_costs_nothing() -> None:
    ledger = BudgetLedger(Budget(calls=1, tokens=100))
    for _ in range(3):
        ledger.reserve(one_call(100))
        ledger.fail("a", one_call(100), served=False)
    assert (ledger.total().faults, ledger.total().calls, ledger.used) == (3, 0, (0, 0, 0))


def test_a_call_that_may_have_been_served_counts_at_its_worst_case_or_as_the_server_reported() -> None:
    ledger = BudgetLedger(Budget(calls=9, tokens=1000))
    for usage in (None, Usage(), Usage(30, 4)):
        ledger.reserve(Reservation(2, 100))
        ledger.fail("a", Reservation(2, 100), served=True, usage=usage)
    assert (ledger.total().faults, ledger.used) == (3, (5, 234, 0))


def test_the_next_call_is_refused_when_it_could_cross_the_budget() -> None:
    ledger = BudgetLedger(Budget(tokens=100))
    ledger.reserve(one_call(60))
    with pytest.raises(BudgetError, match=r"100 tokens could be overrun.*0 used, 60 set aside, 41 needed"):
        ledger.reserve(one_call(41))
    ledger.settle("a", one_call(60), [Usage(20, 10, 0)])
    ledger.reserve(one_call(41))


def test_a_budget_of_calls_counts_those_in_flight() -> None:
    ledger = BudgetLedger(Budget(calls=2))
    ledger.reserve(one_call())
    ledger.reserve(one_call())
    with pytest.raises(BudgetError, match="2 calls"):
        ledger.reserve(one_call())


@given(
    budget=st.integers(0, 500),
    most_calls=st.integers(0, 20),
    steps=st.lists(
        st.tuples(
            st.booleans(), st.integers(0, 100), st.floats(0, 1), st.sampled_from(["replies", "refused", "breaks off"])
        ),
        max_size=60,
    ),
)
def test_no_order_of_reserving_and_settling_spends_more_than_the_budget(
    budget: int, most_calls: int, steps: list[tuple[bool, int, float, str]]
) -> None:
    ledger = BudgetLedger(Budget(calls=most_calls, tokens=budget))
    in_flight: list[Reservation] = []
    for begins, worst, share, outcome in steps:
        if begins or not in_flight:
            try:
                ledger.reserve(one_call(worst))
            except BudgetError:
                continue
            in_flight.append(one_call(worst))
        else:
            reserved = in_flight.pop(0)
            used = int(reserved.tokens * share)
            if outcome == "replies":
                ledger.settle("a", reserved, [Usage(used // 2, used - used // 2, 0)])
            else:
                ledger.fail("a", reserved, served=outcome == "breaks off")
        calls, tokens, _ = ledger.used
        assert tokens + sum(one.tokens for one in in_flight) <= budget
        assert calls + len(in_flight) <= most_calls
