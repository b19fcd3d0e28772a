"""Requests and tokens a minute: what is sent stays below the limits in every window, and nothing waits in vain."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.assemble import engine_of
from lrf.config import parse_pipeline
from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.limiter import Limiter
from lrf.engine.observers import Observers
from lrf.engine.paid_call import Caller
from lrf.engine.queue import CallQueue
from lrf.engine.rate_limits import BURST_S, LATE_S, MINUTE_S, SECOND_S, RateLimits
from lrf.engine.worst_case import most_prompt_tokens
from lrf.errors import ConfigError, RateLimitedError, RunInterruptedError
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.store.journal import Journal


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


CALL = st.tuples(
    st.integers(1, 40_000),  # tokens expected
    st.floats(0, 1),  # share of them that it took
    st.floats(0, 20),  # seconds until the reply
    st.floats(0, 3),  # seconds until the next call is wanted
)


@settings(max_examples=50)
@given(
    requests=st.none() | st.integers(1, 300),
    tokens=st.none() | st.integers(1000, 100_000),
    calls=st.lists(CALL, max_size=60),
)
def test_no_minute_holds_more_than_its_limit_nor_a_part_of_it_more_than_its_share_and_a_call(
    requests, tokens, calls
) -> None:
    clock = Clock()
    rates = RateLimits(requests, tokens, clock)
    sent = []
    replies = []
    for expected, share, reply_s, pause_s in calls:
        while (wait_s := rates.wait_s(1, expected)) > 0:
            assert wait_s <= MINUTE_S + LATE_S + 1e-6  # a difference of two clock readings is rounded
            clock.now += wait_s
        entry = rates.take(1, expected)
        sent.append(entry)
        replies.append((clock.now + reply_s, entry, expected * share))
        held(sent, requests, tokens)
        clock.now += pause_s
        for reply in [r for r in replies if r[0] <= clock.now]:
            rates.settle(reply[1], 1, reply[2])
            replies.remove(reply)
        held(sent, requests, tokens)


def held(sent, requests, tokens) -> None:
    for seconds, share in ((MINUTE_S + LATE_S, 1.0), (BURST_S, BURST_S / MINUTE_S), (SECOND_S, SECOND_S / MINUTE_S)):
        for first in range(len(sent)):
            window = [s for s in sent[first:] if s.at < sent[first].at + seconds - 1e-6]
            for what, a_minute in (("requests", requests), ("tokens", tokens)):
                amounts = [amount for s in window if (amount := getattr(s, what))]
                if a_minute is not None and sum(amounts) > math.ceil(a_minute * share) + 1e-6 and len(amounts) > 1:
                    assert share < 1, f"{sum(amounts)} {what} in {seconds} s"
                    assert sum(amounts[:-1]) <= math.ceil(a_minute * share), f"{amounts} {what} in {seconds} s"


@given(requests=st.integers(1, 200))
def test_calls_that_come_without_end_use_all_that_is_allowed(requests: int) -> None:
    clock = Clock()
    rates = RateLimits(requests, None, clock)
    ends = clock.now + 5 * (MINUTE_S + LATE_S)
    count = 0
    while clock.now < ends:
        if (wait_s := rates.wait_s(1, 0)) > 0:
            clock.now += wait_s
        else:
            rates.take(1, 0)
            count += 1
    assert count == 5 * requests


def test_long_calls_use_all_of_a_minutes_tokens() -> None:
    """Two of them are more than a tenth, which must not halve what is sent."""
    clock = Clock()
    rates = RateLimits(None, 450_000, clock)
    sent = []
    while clock.now < 1000 + 3 * (MINUTE_S + LATE_S):
        if (wait_s := rates.wait_s(1, 25_000)) > 0:
            clock.now += wait_s
        else:
            sent.append(rates.take(1, 25_000).at - 1000)
    assert len(sent) == 3 * 18
    assert sent[:4] == [0, 1, 6, 7]


@settings(max_examples=40)
@given(requests=st.integers(1, 40), late=st.lists(st.floats(0, LATE_S), min_size=1, max_size=50))
def test_neither_a_minute_nor_six_seconds_of_the_servers_have_too_much_however_late_requests_arrive(
    requests, late
) -> None:
    clock = Clock()
    rates = RateLimits(requests, None, clock)
    arrived: list[float] = []
    while len(arrived) < 3 * requests:
        if (wait_s := rates.wait_s(1, 0)) > 0:
            clock.now += wait_s
        else:
            rates.take(1, 0)
            arrived.append(clock.now + late[len(arrived) % len(late)])
    arrived.sort()
    burst = math.ceil(requests * BURST_S / MINUTE_S) + math.ceil(requests * SECOND_S / MINUTE_S)
    for most, seconds in ((requests, MINUTE_S), (burst, BURST_S)):
        assert all(later - first >= seconds - 1e-6 for first, later in zip(arrived, arrived[most:], strict=False))


def test_a_reply_that_took_less_than_expected_makes_room_at_once() -> None:
    clock = Clock()
    rates = RateLimits(None, 10_000, clock)
    entry = rates.take(1, 1000)
    assert rates.wait_s(1, 1000) == BURST_S
    rates.settle(entry, 1, 100)
    assert rates.wait_s(1, 900) == 0
    clock.now += MINUTE_S
    rates.settle(entry, 1, 5000)  # it left the window long ago
    assert rates.wait_s(1, 1000) == 0


async def test_who_waits_for_the_rate_holds_no_slot_and_goes_by_priority() -> None:
    clock = Clock()
    queue = CallQueue(Limiter(4), RateLimits(10, None, clock))
    order: list[str] = []

    async def call(name: str, position: int) -> None:
        async with queue.slot(position):
            order.append(name)

    tasks = [asyncio.create_task(call(name, p)) for name, p in (("first", 0), ("late", 9), ("early", 1))]
    await asyncio.sleep(0.01)
    assert order == ["first"]
    assert (queue.in_flight, queue.waiting) == (0, 2)
    clock.now += BURST_S
    queue._wake()
    await asyncio.sleep(0.01)
    assert order == ["first", "early"]
    clock.now += BURST_S
    queue._wake()
    await asyncio.gather(*tasks)
    assert order == ["first", "early", "late"]


async def test_a_wait_for_the_rate_ends_by_itself() -> None:
    class Hurried(RateLimits):
        def wait_s(self, requests: float, tokens: float) -> float:
            return super().wait_s(requests, tokens) / 100

    clock = Clock()
    queue = CallQueue(Limiter(4), Hurried(10, None, clock))
    async with queue.slot(0):
        pass
    asyncio.get_running_loop().call_later(0.02, lambda: setattr(clock, "now", clock.now + BURST_S))
    async with asyncio.timeout(10), queue.slot(0):
        pass


async def test_draining_ends_a_wait_for_the_rate_at_once() -> None:
    queue = CallQueue(Limiter(4), RateLimits(1, None, Clock()))
    async with queue.slot(0):
        pass
    waiting = asyncio.create_task(queue.slot(0).__aenter__())
    await asyncio.sleep(0)
    queue.stop.set()
    with pytest.raises(RunInterruptedError):
        await waiting


async def test_a_call_that_was_given_up_while_it_waited_counts_for_nothing() -> None:
    clock = Clock()
    rates = RateLimits(2, None, clock)
    queue = CallQueue(Limiter(1), rates)
    first = queue.slot(0)
    await first.__aenter__()
    clock.now += BURST_S
    waiting = asyncio.create_task(queue.slot(0).__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)  # its turn has come, and it is cancelled before it goes on
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert rates.wait_s(1, 0) == 0
    assert queue.in_flight == 0


class Judge:
    """Says how many tokens it took; the first call of each prompt is refused."""

    identity = {"type": "stub"}  # noqa: RUF012
    capabilities = Capabilities()
    max_concurrency = 8
    request_timeout_s = 60.0

    def __init__(self, usage: Usage, refuse: int = 0) -> None:
        self.usage = usage
        self.refuse = refuse

    async def complete(self, request: Request) -> Reply:
        if self.refuse:
            self.refuse -= 1
            raise RateLimitedError("slow down", retry_after_s=0.0)
        return Reply("[[7]]", usage=self.usage)

    async def aclose(self) -> None: ...


def calls(judge: Judge, rates: RateLimits) -> JudgeCalls:
    return JudgeCalls("main", judge, Journal(), BudgetLedger(), rates=rates)


PROMPT = (Segment("p" * 744),)  # 1,000 tokens at most, with the chat template's


async def test_tokens_count_at_the_worst_until_the_reply_and_then_as_the_judge_reported_them() -> None:
    clock = Clock()
    rates = RateLimits(None, 30_000, clock)
    judge = calls(Judge(Usage(250, 50)), rates)
    assert judge._rated(Request(PROMPT, Rating(), 500, 0.0)) == (1, 1500)
    await judge.ask(Asked(PROMPT, Rating(), 500, Caller("s", "d")))
    assert rates.wait_s(1, 29_700) == 0
    assert rates.wait_s(1, 29_701) > 0
    assert most_prompt_tokens(Request(PROMPT, Rating(), 500, 0.0)) == 1000
    assert judge._rated(Request(PROMPT, Rating(), 500, 0.0)) == (1, 750)  # prompts have a quarter of the most
    judge.journal.close()


async def test_a_judge_that_reports_no_tokens_counts_at_the_worst() -> None:
    rates = RateLimits(None, 15_000, Clock())
    judge = calls(Judge(Usage()), rates)
    await judge.ask(Asked(PROMPT, Rating(), 500, Caller("s", "d")))
    assert rates.wait_s(1, 1) > 0
    judge.journal.close()


async def test_every_call_that_the_judge_makes_for_a_reply_counts() -> None:
    rates = RateLimits(30, None, Clock())
    judge = calls(Judge(Usage(1, 1, 0, calls=3)), rates)
    await judge.ask(Asked(PROMPT, Rating(), 500, Caller("s", "d")))
    assert rates.wait_s(1, 0) == BURST_S
    assert judge.ledger.total().calls == 3
    judge.journal.close()


async def test_a_refused_call_counts_as_a_request_and_uses_up_no_attempt() -> None:
    rates = RateLimits(120, None, Clock())
    judge = calls(Judge(Usage(1, 1), refuse=1), rates)
    answer = await judge.ask(Asked(PROMPT, Rating(), 500, Caller("s", "d")))
    assert answer.attempts == 1
    assert rates.wait_s(1, 0) == SECOND_S
    judge.journal.close()


def pipeline(**judge):
    main = {"type": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return {
        "name": "x",
        "judges": {"main": {**main, **judge}},
        "embedders": {"main": {**main, "requests_per_minute": 7}},
        "retrievers": {"main": "memory"},
        "dimensions": ["helpfulness", "faithfulness"],
    }


async def test_a_pipeline_limits_any_judge_and_any_embedder(tmp_path: Path) -> None:
    made = parse_pipeline(pipeline(requests_per_minute=600, tokens_per_minute=90_000), load_catalog(), folder=tmp_path)
    engine = engine_of(made, Journal(), Observers(None, lambda *_: None))
    judge, embedder = engine.judges["main"].rates, engine.embedders["main"].rates
    assert judge
    assert embedder
    judge.take(1, 9_000)
    embedder.take(1, 1e9)
    assert judge.wait_s(1, 1) > 0
    assert embedder.wait_s(1, 0) > 0
    assert made.resolved["judges"]["main"]["tokens_per_minute"] == 90_000
    assert "tokens_per_minute" not in made.resolved["embedders"]["main"]
    assert parse_pipeline(made.resolved, load_catalog(), folder=tmp_path).resolved == made.resolved
    await engine.aclose()


def test_a_limit_of_nothing_is_reported_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"judges\.main\.requests_per_minute"):
        parse_pipeline(pipeline(requests_per_minute=0), load_catalog(), folder=tmp_path)


def test_limits_of_a_minute_change_nothing_that_was_paid_for(tmp_path: Path) -> None:
    plain, limited = (
        parse_pipeline(pipeline(**keys), load_catalog(), folder=tmp_path) for keys in ({}, {"tokens_per_minute": 9})
    )
    assert replace(plain.judges["main"], reserved=None) == replace(limited.judges["main"], reserved=None)
