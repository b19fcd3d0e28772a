"""Equal questions that are asked while one of them is under way."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.single_flight import REMEMBERED, SingleFlight


async def test_equal_questions_are_one_call_and_later_ones_another() -> None:
    flights, begun = SingleFlight[int](), 0

    async def call() -> int:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.01)
        return begun

    assert await asyncio.gather(*(flights.join(b"a", call) for _ in range(5)), flights.join(b"b", call)) == [2] * 6
    assert begun == 2
    assert b"a" not in flights
    assert await flights.join(b"a", call) == 3


async def test_who_stops_waiting_stops_neither_the_call_nor_others() -> None:
    flights, ended = SingleFlight[str](), asyncio.Event()

    async def call() -> str:
        await asyncio.sleep(0.02)
        ended.set()
        return "reply"

    async def wait() -> str:
        return await flights.join(b"a", call)

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "reply"
    assert first.cancelled()
    ended.clear()
    only = asyncio.create_task(wait())
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_failure_reaches_all_that_wait_and_leaves_nothing_for_the_collector() -> None:
    flights = SingleFlight[str]()

    async def call() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def wait() -> str:
        try:
            return await flights.join(b"a", call)
        except ValueError as error:
            return str(error)

    gc.collect()
    gc.disable()
    try:
        assert await asyncio.gather(*(wait() for _ in range(3))) == ["no"] * 3
        assert b"a" not in flights
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [o for o in gc.garbage if isinstance(o, BaseException | asyncio.Future)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@given(st.integers(0, 3))
async def test_giving_up_cancels_all_that_wait_even_for_a_call_that_has_not_begun(turns: int) -> None:
    flights = SingleFlight[str]()

    async def call() -> str:
        await asyncio.sleep(3600)
        return ""

    waiting = [flights.join(key, call) for key in (b"a", b"a", b"b")]
    for _ in range(turns):
        await asyncio.sleep(0)
    await flights.aclose()
    for waiter in waiting:
        with pytest.raises(asyncio.CancelledError):
            await waiter


async def test_a_failure_that_nobody_waits_for_any_more_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    flights = SingleFlight[str]()

    async def call() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def wait() -> str:
        return await flights.join(b"a", call)

    for turns in range(4):  # cancelled before, in and after the turn in which the call fails
        task = asyncio.create_task(wait())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.01)
    gc.collect()
    assert not caplog.records


async def test_a_call_that_begins_while_all_are_given_up_is_given_up_too() -> None:
    flights, late = SingleFlight[str](), []

    async def call() -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            if not late:
                late.append(flights.join(b"b", call))
        return ""

    first = flights.join(b"a", call)
    await asyncio.sleep(0)
    await flights.aclose()
    for waiter in (first, *late):
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert b"b" not in flights


async def test_a_call_that_ended_since_is_remembered_and_an_older_one_is_not() -> None:
    flights = SingleFlight[str]()

    async def call() -> str:
        return "reply"

    mark = flights.landed
    assert not flights.landed_since(mark, b"a")
    await flights.join(b"a", call)
    assert flights.landed_since(mark, b"a")
    assert not flights.landed_since(mark, b"b")
    assert not flights.landed_since(flights.landed, b"a")
    for number in range(REMEMBERED + 1):
        await flights.join(b"%d" % number, call)
    assert flights.landed_since(mark, b"a")  # nobody knows any more: look again
