"""What a paid call counts as, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf.engine.asked import Asked
from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller, sum_usages
from lrf.engine.worst_case import worst_case_of
from lrf.errors import (
    BadReplyError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
    UnscorableError,
)
from lrf.http.openai import read_chat
from lrf.prices import Price
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal, Used
from lrf.testing import ScriptedJudge

PROMPT = (Segment("How apt is it?", trusted=False),)
PRICE = Price("USD", prompt=3, cached=1, completion=7)
REPLY = Reply("[[7]]", usage=Usage(10, 5))
WORST = worst_case_of(ScriptedJudge(), Request(PROMPT, Rating(), 64, 0.01))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)


def with_usage(error: BadReplyError, usage: Usage) -> BadReplyError:
    error.usage = usage
    return error


def odd_usage(**changes: Any) -> Reply:
    return replace(REPLY, usage=replace(REPLY.usage, **changes))


async def counted(script: Callable[[Request], Any] | list[Any], path: Path) -> tuple[tuple[int, int, int], Used | None]:
    """What a question counts as against a budget, and what another sitting reads from the journal."""
    journal = Journal(path)
    ledger = BudgetLedger(Budget(calls=1000, tokens=10**9, money=10**12))
    calls = JudgeCalls("main", ScriptedJudge(script, request_timeout_s=0.05), journal, ledger, price=PRICE)
    with contextlib.suppress(UnscorableError, JudgeMisconfiguredError, ZeroDivisionError):
        await calls.ask(Asked(PROMPT, Rating(), 64, Caller("s", "d")))
    await calls.aclose()
    await asyncio.to_thread(journal.close)
    again = Journal(path)
    used = await asyncio.to_thread(again.usage)
    await asyncio.to_thread(again.close)
    return ledger.used, used[0] if used else None


@pytest.mark.parametrize(
    "failure",
    [
        TimedOutError("no reply"),
        UnavailableError("the connection broke", sent=True),
        BadReplyError("the server answered HTML"),
        ZeroDivisionError("a plugin's own fault"),
        odd_usage(calls=0),
        odd_usage(prompt_tokens=-1),
        odd_usage(completion_tokens=math.inf),
        odd_usage(cached_tokens=math.nan),
        odd_usage(written_tokens=None),
        odd_usage(completion_tokens=10**30),
    ],
    ids=str,
)
async def test_a_call_that_may_have_been_served_counts_at_its_worst_case(failure: Any, tmp_path: Path) -> None:
    used, kept = await counted([failure, REPLY], tmp_path / "j")
    assert kept is not None
    assert (kept.calls, kept.most_prompt, kept.most_reply) == (1 + kept.replies, WORST.prompt, WORST.reply)
    served = kept.replies  # an unexpected error isn't tried again
    cost = PRICE.most(WORST.prompt, WORST.reply) + served * PRICE.cost(10, 5)
    assert used == (1 + served, WORST.prompt + WORST.reply + served * 15, cost)
    assert served or isinstance(failure, ZeroDivisionError)


@pytest.mark.parametrize(
    "refusal",
    [
        UnavailableError("can't connect"),
        RateLimitedError("slow down", retry_after_s=0.0),
        RejectedError("too long"),
        JudgeMisconfiguredError("wrong key"),
    ],
    ids=str,
)
async def test_a_call_that_the_server_refused_counts_nothing(refusal: Exception, tmp_path: Path) -> None:
    (calls, tokens, _), kept = await counted([refusal, REPLY], tmp_path / "j")
    assert (calls, tokens) in ((0, 0), (1, 15))
    assert kept is None or kept.most_prompt == 0


async def test_numbers_of_another_type_are_kept_as_pythons_own(tmp_path: Path) -> None:
    usage = Usage(np.int64(12), 5.0, calls=np.int32(2))  # type: ignore[arg-type]
    reply = replace(REPLY, usage=usage, probabilities={"[[7]]": np.float32(0.5)})
    (calls, tokens, _), kept = await counted([reply], tmp_path / "j")
    assert (calls, tokens) == (2, 17)
    assert kept is not None
    assert (kept.replies, kept.calls, kept.prompt_tokens, kept.completion_tokens) == (1, 2, 12, 5)


async def test_an_error_with_a_usage_that_can_not_be_counts_at_the_worst_case(tmp_path: Path) -> None:
    failure = with_usage(BadReplyError("the reply holds no choices"), Usage(-(10**6), 20))
    (_, tokens, _), _ = await counted([failure, REPLY], tmp_path / "j")
    assert tokens == WORST.prompt + WORST.reply + 15


async def test_a_reply_that_was_billed_and_can_not_be_read_counts_as_the_server_reported(tmp_path: Path) -> None:
    failure = with_usage(BadReplyError("the reply holds no choices"), Usage(100, 20))
    (calls, tokens, _), kept = await counted([failure, REPLY], tmp_path / "j")
    assert (calls, tokens) == (2, 135)
    assert kept is not None
    assert (kept.calls, kept.prompt_tokens, kept.completion_tokens, kept.most_prompt) == (2, 110, 25, 0)


async def test_a_call_that_is_given_up_in_flight_counts_at_its_worst_case_and_is_no_fault(tmp_path: Path) -> None:
    sent = asyncio.Event()

    async def hang(_: Request) -> Reply:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    journal, ledger = Journal(tmp_path / "j"), BudgetLedger(Budget(calls=5))
    calls = JudgeCalls("main", ScriptedJudge(hang), journal, ledger)
    asked = asyncio.create_task(calls.ask(Asked(PROMPT, Rating(), 64, Caller("s", "d"))))
    await sent.wait()
    await calls.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked
    (used,) = await asyncio.to_thread(journal.usage)
    await asyncio.to_thread(journal.close)
    assert (ledger.used[0], ledger.total().faults, used.calls) == (1, 0, 1)


async def test_a_usage_that_can_not_be_is_reported_with_the_judges_name() -> None:
    calls = JudgeCalls("main", ScriptedJudge(lambda _: odd_usage(calls=0)), Journal(), BudgetLedger())
    with pytest.raises(
        UnscorableError, match=r"judges\.main \(ScriptedJudge of lrf\) reported a usage that can't be.*calls=0"
    ):
        await calls.ask(Asked(PROMPT, Rating(), 64, Caller("s", "d")))
    await calls.aclose()
    await asyncio.to_thread(calls.journal.close)


def test_usages_of_several_replies_add_up() -> None:
    assert sum_usages([Usage(1, 2, 3, 4, 5), Usage(10, 20, 30, 40, 50)]) == Usage(11, 22, 33, 44, 55)


@pytest.mark.parametrize("body", [{"choices": []}, {"choices": [{"message": {"content": 7}}]}])
def test_a_completion_that_can_not_be_read_still_reports_its_usage(body: dict[str, Any]) -> None:
    with pytest.raises(BadReplyError) as raised:
        read_chat({**body, "usage": {"prompt_tokens": 100, "completion_tokens": 20}})
    assert raised.value.usage == Usage(100, 20)
