"""Refusals of one request, and of whatever a server is sent."""

from __future__ import annotations

import pytest

from lrf.engine.refusals import (
    FIRST_SAMPLES,
    FIRST_SAMPLES_OF_SETUP,
    FIRST_SAMPLES_TOO_LONG,
    LATER_SAMPLES,
    Refusal,
    Refusals,
)
from lrf.errors import ContextTooSmallError, JudgeMisconfiguredError, RejectedError


def refusals_until_stop(refusals: Refusals, error: Refusal, most: int = 500) -> int | None:
    """How many samples are refused one after another until the run is stopped; None if it isn't."""
    for number in range(1, most):
        if refusals.refused(error, f"s{number}", float(number), None) is not None:
            return number
    return None


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (RejectedError("no"), FIRST_SAMPLES, LATER_SAMPLES),
        (JudgeMisconfiguredError("no such model", certain=False), FIRST_SAMPLES_OF_SETUP, LATER_SAMPLES),
        (ContextTooSmallError("too long"), FIRST_SAMPLES_TOO_LONG, None),
    ],
)
def test_refusals_of_many_samples_in_a_row_stop_the_run(error: Refusal, before: int, after: int | None) -> None:
    assert refusals_until_stop(Refusals("judges.main"), error) == before
    served = Refusals("judges.main")
    served.served()
    assert refusals_until_stop(served, error) == after


def test_one_samples_refusals_never_stop_the_run() -> None:
    refusals = Refusals("judges.main")
    assert not any(refusals.refused(RejectedError("no"), "s", float(n), None) for n in range(1_000))


def test_a_served_request_ends_the_row() -> None:
    refusals = Refusals("judges.main")
    for n in range(200):
        assert refusals.refused(RejectedError("no"), f"s{n}", float(n), None) is None
        if n % FIRST_SAMPLES == 0:
            refusals.served()


def test_calls_that_were_sent_before_the_first_refusal_are_waited_for() -> None:
    refusals = Refusals("judges.main")
    for n in range(FIRST_SAMPLES + 1):
        assert refusals.refused(RejectedError("no"), f"s{n}", 10.0 + n, oldest=9.0) is None
    assert refusals.refused(RejectedError("no"), "s", 100.0, oldest=11.0) is not None


def test_a_call_that_hangs_is_not_waited_for_without_end() -> None:
    refusals = Refusals("judges.main")
    outcomes = [refusals.refused(RejectedError("no"), f"s{n}", 10.0 + n, oldest=9.0) for n in range(2 * FIRST_SAMPLES)]
    assert [outcome is None for outcome in outcomes] == [True] * (2 * FIRST_SAMPLES - 1) + [False]


def test_the_error_says_the_servers_words_and_what_may_help() -> None:
    refusals = Refusals("judges.main")
    error = RejectedError("status 400: enable_thinking must be false", hint="check `extra_body`")
    for n in range(FIRST_SAMPLES - 1):
        refusals.refused(error, f"s{n}", 1.0, None)
    assert str(refusals.refused(error, "last", 2.0, None)) == (
        "judges.main refuses all requests (of 5 samples), the last with: status 400: enable_thinking must be false; "
        "check `extra_body`. What is done is kept: mend it and run the same command again"
    )
