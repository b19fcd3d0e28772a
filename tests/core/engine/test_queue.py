"""Which waiting call goes next, and how many have a slot."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.engine.limiter import Limiter
from lrf.engine.queue import CallQueue
from lrf.errors import RunInterruptedError


async def test_the_earliest_sample_goes_first_and_equals_go_in_order_of_coming() -> None:
    queue = CallQueue(Limiter(1))
    order = []

    all_there = asyncio.Event()

    async def call(name: str, position: int) -> None:
        async with queue.slot(position):
            order.append(name)
            await all_there.wait()

    tasks = [asyncio.create_task(call("first", 9))]
    await asyncio.sleep(0)
    wishes = [("late", 7), ("early", 2), ("twin a", 3), ("twin b", 3), ("earliest", 1)]
    tasks += [asyncio.create_task(call(*wish)) for wish in wishes]
    await asyncio.sleep(0)
    all_there.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "earliest", "early", "twin a", "twin b", "late"]


async def test_draining_lets_calls_in_flight_finish_and_refuses_the_rest() -> None:
    queue = CallQueue(Limiter(1))
    go_on = asyncio.Event()
    done = []

    async def call(name: str) -> None:
        async with queue.slot(0):
            await go_on.wait()
            done.append(name)

    first, second = asyncio.create_task(call("in flight")), asyncio.create_task(call("waiting"))
    await asyncio.sleep(0)
    queue.stop.set()
    with pytest.raises(RunInterruptedError):
        await second
    with pytest.raises(RunInterruptedError):
        await call("new")
    go_on.set()
    await first
    assert done == ["in flight"]
    assert queue.in_flight == queue.waiting == 0


async def test_the_feeder_is_notified_of_every_call_that_comes_and_of_every_free_slot() -> None:
    queue = CallQueue(Limiter(2))
    told = []
    queue.on_move = lambda: told.append(queue.in_flight)
    async with queue.slot(0), queue.slot(0):
        pass
    assert told == [1, 2, 1, 0]


async def test_a_smaller_limit_holds_back_new_calls_until_enough_have_ended() -> None:
    queue = CallQueue(Limiter(4))
    queue.limiter.limit = 2.0
    now = most = 0

    async def call() -> None:
        nonlocal now, most
        async with queue.slot(0):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(call() for _ in range(20)))
    assert most == 2


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    ceiling=st.integers(1, 5),
    calls=st.integers(1, 40),
    cancelled=st.floats(0, 1),
    refused=st.floats(0, 1),
)
def test_whatever_happens_no_slot_is_lost(
    seed: int, ceiling: int, calls: int, cancelled: float, refused: float
) -> None:
    rng = random.Random(seed)

    async def run() -> None:
        queue = CallQueue(Limiter(ceiling))
        now = 0

        async def call() -> None:
            nonlocal now
            async with queue.slot(rng.randrange(3)):
                now += 1
                assert now <= ceiling
                try:
                    for _ in range(rng.randrange(4)):
                        await asyncio.sleep(0)
                    queue.limiter.refused() if rng.random() < refused else queue.limiter.served()
                    if rng.random() < 0.2:
                        raise ValueError("the call failed")
                finally:
                    now -= 1

        tasks = [asyncio.create_task(call()) for _ in range(calls)]
        for task in tasks:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if rng.random() < cancelled:
                rng.choice(tasks).cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert not [o for o in outcomes if isinstance(o, AssertionError)]
        assert now == queue.in_flight == 0
        queue.limiter.limit = ceiling
        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(3)), return_exceptions=True), 30)
        assert queue.in_flight == queue.waiting == 0

    asyncio.run(run())


async def test_what_is_sent_and_not_yet_written_is_at_most_twice_the_ceiling() -> None:
    queue, most, writes = CallQueue(Limiter(4)), 0, asyncio.Event()

    async def call(number: int) -> None:
        nonlocal most
        async with queue.slot(number):
            await asyncio.sleep(0)
            most = max(most, queue.in_flight + queue.unwritten)
            queue.replied()
        try:
            await writes.wait()
        finally:
            queue.written()

    calls = [asyncio.create_task(call(number)) for number in range(40)]
    for _ in range(200):
        await asyncio.sleep(0)
    assert (queue.unwritten, queue.waiting, most) == (8, 32, 8)  # a stuck journal holds everything up
    writes.set()
    await asyncio.gather(*calls)
    assert (queue.unwritten, queue.in_flight, most <= 8) == (0, 0, True)


async def _order(queue: CallQueue, *calls: tuple[str, int, int | None], fails: str = "") -> list[str]:
    """Who began when, of calls that come together while a slot is taken; each ends as soon as all could begin."""
    order = []

    async def call(name: str, position: int, beginning: int | None) -> None:
        async with queue.slot(position, beginning=beginning):
            order.append(name)
            for _ in range(5):
                await asyncio.sleep(0)
            if name == fails:
                raise ConnectionError

    async with queue.slot(0):
        tasks = [asyncio.create_task(call(*c)) for c in calls]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert queue.waiting == queue.in_flight == 0
    return order


async def test_prompts_with_a_long_beginning_wait_until_the_first_of_them_is_answered_while_others_can_go() -> None:
    calls = [("a1", 1, 7), ("a2", 1, 7), ("a3", 1, 7), ("b", 2, 8), ("c", 3, None)]
    assert await _order(CallQueue(Limiter(2)), *calls) == ["a1", "b", "a2", "a3", "c"]


async def test_a_slot_never_stays_free_for_a_beginning() -> None:
    assert await _order(CallQueue(Limiter(2)), ("a1", 1, 7), ("a2", 1, 7), ("a3", 1, 7)) == ["a1", "a2", "a3"]
    queue = CallQueue(Limiter(2))
    async with queue.slot(1, beginning=7), queue.slot(1, beginning=7):
        assert queue.in_flight == 2


async def test_a_beginning_that_was_answered_holds_nobody_back() -> None:
    queue = CallQueue(Limiter(2))
    async with queue.slot(0, beginning=7):
        pass
    assert await _order(queue, ("a1", 1, 7), ("a2", 1, 7), ("b", 2, 8)) == ["a1", "a2", "b"]


async def test_only_the_latest_beginnings_are_remembered() -> None:
    queue = CallQueue(Limiter(2))
    queue._beginnings.REMEMBERED = 2
    for beginning in (7, 8, 9):
        async with queue.slot(0, beginning=beginning):
            pass
    calls = [("old1", 1, 7), ("old2", 1, 7), ("new1", 2, 9), ("new2", 2, 9)]
    assert await _order(queue, *calls) == ["old1", "new1", "old2", "new2"]


async def test_after_a_call_that_failed_the_next_with_its_beginning_goes_alone() -> None:
    calls = [("a1", 1, 7), ("a2", 1, 7), ("a3", 1, 7), *((f"b{i}", 2, None) for i in range(6))]
    order = await _order(CallQueue(Limiter(2)), *calls, fails="a1")
    assert order.index("b0") < order.index("a2") < order.index("b1") < order.index("a3")


async def test_a_drain_ends_calls_that_are_held_back_too() -> None:
    queue = CallQueue(Limiter(2))
    async with queue.slot(0, beginning=7):
        async with queue.slot(0):
            waiting = [asyncio.create_task(_enter(queue, 7)) for _ in range(3)]
            waiting.append(asyncio.create_task(_enter(queue, None)))
            await asyncio.sleep(0)
            assert queue.waiting == 4
            queue.stop.set()
        for task in waiting:
            with pytest.raises(RunInterruptedError):
                await task
    assert queue.waiting == queue.in_flight == 0


async def _enter(queue: CallQueue, beginning: int | None) -> None:
    async with queue.slot(1, beginning=beginning):
        pass


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3), st.sampled_from(["ends", "fails", "gives up"]))
    ),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_every_call_gets_its_turn_whatever_it_begins_with(calls: list[tuple[int, int | None, str]], slots: int) -> None:
    began = []

    async def call(number: int, sample: int, beginning: int | None, how: str) -> None:
        async with queue.slot(sample, beginning=beginning):
            began.append(number)
            await asyncio.sleep(0)
            if how == "fails":
                raise ConnectionError

    async def all_calls() -> None:
        tasks = [asyncio.create_task(call(i, *c)) for i, c in enumerate(calls)]
        await asyncio.sleep(0)
        for task, (_, _, how) in zip(tasks, calls, strict=True):
            if how == "gives up":
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    queue = CallQueue(Limiter(slots))
    asyncio.run(all_calls())
    assert {i for i, (_, _, how) in enumerate(calls) if how != "gives up"} <= set(began)
    assert queue.waiting == queue.in_flight == 0
