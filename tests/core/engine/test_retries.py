"""Trying again, by class of error."""

from __future__ import annotations

import asyncio

import pytest

from lrf.engine import retries as retries_module
from lrf.engine.limiter import Limiter
from lrf.engine.retries import FAULTS, Retries
from lrf.engine.stop import Stop
from lrf.errors import (
    BadReplyError,
    BudgetError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    StageError,
    TimedOutError,
    UnavailableError,
    UnscorableError,
)


class Clock:
    """Stands in for pauses and the module's clock: a pause passes at once and is remembered."""

    def __init__(self, stop: Stop) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        stop.pause = self.pause  # type: ignore[method-assign]

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(4)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def clock(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(stop)
    monkeypatch.setattr(retries_module, "time", clock)
    return clock


@pytest.fixture
def retries(limiter: Limiter, stop: Stop, clock: Clock) -> Retries:
    return Retries("judges.main", limiter, stop)


class Server:
    """Raises what it is told to, then answers."""

    def __init__(self, *errors: JudgeError) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "reply"


async def test_a_rate_limit_uses_up_no_try_however_often_it_comes(retries: Retries) -> None:
    server = Server(*(RateLimitedError("wait", retry_after_s=0.1) for _ in range(50)))
    assert await retries.run(server) == "reply"
    assert server.asked == 51


async def test_a_rate_limit_waits_as_long_as_the_server_says(retries: Retries, clock: Clock) -> None:
    await retries.run(Server(RateLimitedError("wait", retry_after_s=7.5), RateLimitedError("wait", retry_after_s=0.0)))
    assert clock.pauses == [7.5, 0.0]


async def test_a_server_that_is_down_is_left_alone_for_as_long_as_it_says_and_that_is_no_silence(
    retries: Retries, clock: Clock
) -> None:
    server = Server(*(UnavailableError("loading", retry_after_s=60.0) for _ in range(FAULTS - 1)))
    assert await retries.run(server) == "reply"
    assert clock.pauses == [60.0] * (FAULTS - 1)


async def test_a_long_wait_that_the_server_asks_for_twice_is_no_silence_either(retries: Retries, clock: Clock) -> None:
    refusals = [RateLimitedError("wait", retry_after_s=500.0) for _ in range(2)]
    assert await retries.run(Server(*refusals)) == "reply"
    assert clock.pauses == [500.0, 500.0]
    with pytest.raises(StageError, match="served nothing for 1000 s"):
        await retries.run(Server(*(RateLimitedError("wait", retry_after_s=500.0) for _ in range(100))))


async def test_an_absurd_wish_to_wait_is_cut(retries: Retries, clock: Clock) -> None:
    await retries.run(Server(RateLimitedError("wait", retry_after_s=1e9)))
    assert clock.pauses == [retries_module.LONGEST_RETRY_AFTER_S]


async def test_without_a_wish_the_pauses_double_up_to_a_minute(retries: Retries, clock: Clock) -> None:
    await retries.run(Server())
    await retries.run(Server(*(RateLimitedError("wait") for _ in range(10))))
    assert len(clock.pauses) == 10
    for n, pause in enumerate(clock.pauses):
        longest = min(60.0, 0.5 * 2**n)
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize("kind", [UnavailableError, TimedOutError, BadReplyError])
async def test_a_fault_is_forgotten_when_a_reply_comes(retries: Retries, kind: type[JudgeError]) -> None:
    server = Server(*(kind("fault") for _ in range(FAULTS - 1)))
    assert await retries.run(server) == "reply"


@pytest.mark.parametrize("kind", [UnavailableError, TimedOutError, BadReplyError])
async def test_five_faults_are_a_transient_reason(retries: Retries, kind: type[JudgeError]) -> None:
    server = Server(*(kind("what the server said") for _ in range(FAULTS)))
    with pytest.raises(UnscorableError) as caught:
        await retries.run(server)
    assert server.asked == FAULTS == 5
    assert caught.value.transient
    assert caught.value.reason == kind.reason
    assert "what the server said (5 times)" in caught.value.detail


async def test_rate_limits_between_faults_do_not_count_as_faults(retries: Retries) -> None:
    mixed: list[JudgeError] = []
    for _ in range(FAULTS - 1):
        mixed += [UnavailableError("down"), RateLimitedError("wait", 0.0), RateLimitedError("wait", 0.0)]
    assert await retries.run(Server(*mixed)) == "reply"


@pytest.mark.parametrize("billed", [False, True])
async def test_a_refused_request_is_asked_once_and_by_a_later_run_unless_it_was_billed(
    retries: Retries, billed: bool
) -> None:
    refusal = RejectedError("too long")
    refusal.sent = billed
    server = Server(refusal)
    with pytest.raises(UnscorableError) as caught:
        await retries.run(server)
    assert server.asked == 1
    assert not caught.value.transient
    assert caught.value.refused is not billed
    assert caught.value.reason == "judge_rejected"


async def test_a_server_that_only_refused_gets_one_call_at_a_time_until_it_serves_one(
    retries: Retries, limiter: Limiter
) -> None:
    usual = limiter.slots
    with pytest.raises(UnscorableError):
        await retries.run(Server(RejectedError("no")), "s")
    assert (usual > 1, limiter.slots) == (True, 1)
    await retries.run(Server(), "t")
    assert limiter.slots == usual
    with pytest.raises(UnscorableError):
        await retries.run(Server(RejectedError("no")), "s")
    assert limiter.slots == usual


@pytest.mark.parametrize("error", [JudgeMisconfiguredError("wrong key"), BudgetError("spent")])
async def test_what_no_try_can_mend_passes_through(retries: Retries, error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        await retries.run(call)


async def test_a_server_that_never_answered_stops_the_run_within_seconds(retries: Retries, clock: Clock) -> None:
    began = clock.now

    async def ask_for_ever() -> None:
        while True:
            try:
                await retries.run(Server(*(UnavailableError("connection refused") for _ in range(FAULTS))))
            except UnscorableError:
                continue

    with pytest.raises(StageError, match=r"judges\.main has served nothing for 20 s.*connection refused"):
        await ask_for_ever()
    assert clock.now - began < 60


async def test_a_server_that_did_answer_is_given_minutes(retries: Retries, clock: Clock) -> None:
    await retries.run(Server())
    began = clock.now
    with pytest.raises(StageError, match="run the same command again"):
        await retries.run(Server(*(RateLimitedError("wait", 30.0) for _ in range(100))))
    assert 300 < clock.now - began < 400


@pytest.mark.parametrize("adapts", [True, False])
async def test_faults_of_a_batch_api_that_served_before_may_be_hours_apart(
    retries: Retries, limiter: Limiter, clock: Clock, adapts: bool
) -> None:
    limiter.adapts = adapts
    await retries.run(Server())
    others = asyncio.create_task(retries.run(asyncio.Event().wait))  # requests of the batch that are still waited for
    await asyncio.sleep(0)
    with pytest.raises(UnscorableError):  # one request of a batch
        await retries.run(Server(*(UnavailableError("busy") for _ in range(FAULTS))))
    clock.now += 20_000
    server = Server(UnavailableError("busy"))  # the first of the next batch
    if adapts:
        with pytest.raises(StageError):
            await retries.run(server)
    else:
        assert await retries.run(server) == "reply"
    others.cancel()


async def test_while_nobody_asks_a_server_is_not_silent(retries: Retries, clock: Clock) -> None:
    await retries.run(Server())
    with pytest.raises(UnscorableError):
        await retries.run(Server(*(UnavailableError("busy") for _ in range(FAULTS))))
    clock.now += 20_000  # a trainer's steps may be hours apart
    assert await retries.run(Server(UnavailableError("busy"))) == "reply"


async def test_one_reply_starts_the_patience_anew(retries: Retries) -> None:
    for _ in range(20):
        assert await retries.run(Server(*(RateLimitedError("wait", 100.0) for _ in range(2)))) == "reply"


async def test_refusals_are_reported_to_the_limiter_and_other_faults_are_not(
    retries: Retries, limiter: Limiter
) -> None:
    await retries.run(
        Server(RateLimitedError("wait", 0), UnavailableError("busy"), TimedOutError("slow"), BadReplyError("html"))
    )
    assert list(limiter._refusals) == [True, True, False]


async def test_a_server_that_only_hangs_and_has_never_answered_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = Retries("judges.main", Limiter(1))
    clock = Clock(retries.stop)
    monkeypatch.setattr(retries_module, "time", clock)

    async def hang() -> None:
        clock.now += 15
        raise TimedOutError("no reply within 15 s")

    with pytest.raises(StageError, match="has served nothing for 20 s"):
        await retries.run(hang)
