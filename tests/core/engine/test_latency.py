"""How long replies take: deadlines, and a limit that follows a server whose replies become slower under load."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.latency import KNOWN, Latency
from lrf.engine.limiter import Limiter
from lrf.engine.paid_call import Caller
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.store.journal import Journal


def test_nothing_is_due_before_enough_replies_have_come() -> None:
    pace = Latency()
    for _ in range(KNOWN - 1):
        pace.slowness(1.0, Usage(1000, 100))
        assert pace.deadline_s(512) is None
    pace.slowness(1.0, Usage(1000, 100))
    assert pace.deadline_s(512) == pytest.approx(4 * (1.0 + 512 * 0.01))


def test_a_deadline_grows_with_the_room_for_the_reply_and_is_never_short() -> None:
    pace = Latency()
    for _ in range(KNOWN):
        pace.slowness(0.05, Usage(1000, 100))
    assert pace.deadline_s(512) == Latency.SHORTEST_S
    assert pace.deadline_s(100_000) > 4 * 49


@given(
    seconds=st.lists(st.tuples(st.floats(0.01, 600), st.integers(0, 10_000)), min_size=KNOWN, max_size=400),
    tokens=st.integers(1, 10_000),
)
def test_a_deadline_leaves_any_reply_of_the_usual_pace_four_times_as_long_as_it_needs(seconds, tokens) -> None:
    pace = Latency()
    for took, written in seconds:
        pace.slowness(took, Usage(100, written))
    due = pace.deadline_s(tokens)
    assert due is not None
    recent = sorted(took for took, _ in seconds[-Latency.RECENT :])
    assert due >= min(4 * recent[round(0.9 * len(recent)) - 1], due)
    assert due >= Latency.SHORTEST_S


class Slow:
    """Answers after so many seconds, or never; remembers the deadlines it was given."""

    identity = {"type": "stub"}  # noqa: RUF012
    max_concurrency = 8

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.request_timeout_s = 30.0
        self.hang = 0
        self.deadlines: list[float | None] = []

    async def complete(self, request: Request) -> Reply:
        self.deadlines.append(request.deadline_s)
        if self.hang:
            self.hang -= 1
            await asyncio.sleep(3600)
        return Reply("[[7]]", usage=Usage(100, 100))

    async def aclose(self) -> None: ...


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Latency, "SHORTEST_S", 0.05)
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.001)


async def warm(judge: Slow) -> JudgeCalls:
    calls = JudgeCalls("main", judge, Journal(), BudgetLedger())
    for n in range(KNOWN):
        await calls.ask(Asked((Segment(f"{n}"),), Rating(), 64, Caller("s", "d")))
    assert judge.deadlines == [judge.request_timeout_s] * KNOWN
    judge.deadlines.clear()
    return calls


async def test_a_call_that_hangs_is_given_up_when_it_is_due_and_asked_again_with_twice_the_time(quick: None) -> None:
    judge = Slow()
    calls = await warm(judge)
    judge.hang = 2
    answer = await calls.ask(Asked((Segment("hangs"),), Rating(), 64, Caller("s", "d")))
    assert (answer.value, answer.attempts) == (7.0, 1)  # a time-out is no attempt: the same request was sent again
    first, second, third = judge.deadlines
    assert first
    assert 0.05 <= first < 1
    assert (second, third) == pytest.approx((2 * first, 4 * first), rel=0.5)
    assert calls.ledger.total().faults == 2
    calls.journal.close()


async def test_a_call_that_hung_before_anything_was_known_is_given_up_as_soon_as_something_is(quick: None) -> None:
    judge = Slow()
    judge.hang = 1
    calls = JudgeCalls("main", judge, Journal(), BudgetLedger())
    async with asyncio.timeout(10):  # its own deadline is in 30 s
        hanging = asyncio.create_task(calls.ask(Asked((Segment("hangs"),), Rating(), 64, Caller("s", "d"))))
        await asyncio.sleep(0.01)
        for n in range(KNOWN):
            await calls.ask(Asked((Segment(f"{n}"),), Rating(), 64, Caller("s", "d")))
        answer = await hanging
    assert answer.value == 7.0
    assert calls.ledger.total().faults == 1
    calls.journal.close()


async def test_a_deadline_is_never_later_than_the_judges_own(quick: None) -> None:
    judge = Slow()
    calls = await warm(judge)
    judge.request_timeout_s = 0.01
    judge.hang = 1
    await calls.ask(Asked((Segment("hangs"),), Rating(), 64, Caller("s", "d")))
    assert judge.deadlines == [0.01, 0.01]
    calls.journal.close()


async def test_a_judge_that_answers_when_it_likes_has_its_own_deadline_only(quick: None) -> None:
    judge = Slow(Capabilities(steady=False))
    calls = await warm(judge)
    await calls.ask(Asked((Segment("one more"),), Rating(), 64, Caller("s", "d")))
    assert judge.deadlines == [30.0]
    calls.journal.close()


LatencyModel = Callable[[int, float], float]
"""Seconds of a call, by the calls in flight when it is sent and the time, before its length and its jitter."""


def simulate(
    latency: LatencyModel, slots: int, calls: int, jitter: float = 0.3, seed: int = 0
) -> tuple[float, Limiter]:
    """(calls a second, the limiter) of a client that always has more to ask. Replies have 1 to 400 tokens."""
    rng = random.Random(seed)
    pace, limiter = Latency(), Limiter(slots)
    now, flying = 0.0, []
    for number in range(calls):
        while len(flying) < int(limiter.limit):
            tokens, prompt = rng.choice((2, 60, 150, 400)), rng.choice((300, 2000, 9000))
            seconds = latency(len(flying) + 1, now) * (0.5 + 0.002 * tokens + 0.00004 * prompt)
            seconds *= rng.lognormvariate(0, jitter)
            heapq.heappush(flying, (now + seconds, number, rng.random(), seconds, Usage(prompt, tokens)))
        now, _, _, seconds, usage = heapq.heappop(flying)
        limiter.served()
        slowness = pace.slowness(seconds, usage)
        if slowness is not None and (usual := limiter.timed(slowness)) is not None:
            pace.accept(usual)
    return calls / now, limiter


@pytest.mark.parametrize(("slots", "jitter"), [(4, 0.5), (64, 0.0), (64, 0.5), (256, 0.3)])
def test_the_limit_stays_where_latency_does_not_follow_the_load(slots: int, jitter: float) -> None:
    for seed in range(2):
        _, limiter = simulate(lambda flying, now: 1.0, slots, 10_000, jitter, seed)
        assert limiter.limit == slots


def test_the_limit_backs_off_where_replies_take_longer_the_more_there_are_in_flight() -> None:
    def latency(flying: int, now: float) -> float:
        return max(1.0, flying / 64)

    for seed in range(2):
        throughput, limiter = simulate(latency, 256, 20_000, seed=seed)
        best, _ = simulate(latency, 64, 20_000, seed=seed)
        assert 64 <= limiter.limit <= 3 * 64
        assert throughput >= 0.95 * best


def test_the_limit_follows_a_server_that_loses_most_of_its_capacity() -> None:
    def latency(flying: int, now: float) -> float:
        return max(1.0, flying / (256 if now < 20 else 16))

    for seed in range(3):
        _, limiter = simulate(latency, 256, 20_000, seed=seed)
        assert 16 <= limiter.limit <= 4 * 16


def test_a_server_that_becomes_slow_for_another_reason_is_asked_as_much_as_before() -> None:
    def latency(flying: int, now: float) -> float:
        return 1.0 if now < 20 else 4.0

    _, limiter = simulate(latency, 64, 10_000)
    assert limiter.limit == 64


def test_a_burst_of_slow_replies_changes_nothing() -> None:
    def latency(flying: int, now: float) -> float:
        return 5.0 if 20 < now < 21 else 1.0

    _, limiter = simulate(latency, 64, 10_000)
    assert limiter.limit == 64
    _, limiter = simulate(latency, 64, 2_600)
    assert limiter.limit == 64
