"""The loop that feeds samples to what works on them: how many are open at once, in which order, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lrf.errors import LrfError, RunError, RunInterruptedError
from lrf.stages.feeding import MOST_OPEN, Feeder, FinishedSample
from lrf.store.cache import open_journal
from lrf.store.spool import PAGE, Spool
from lrf.types import Document, Sample

SLOTS = 4


class Data:
    """A source of samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def read(self) -> Iterator[Sample]:
        for number in range(self.samples):
            yield Sample(str(number), "q", (Document("0", "text"),))


class Slots:
    """Slots for calls, as the engine has them: a call of an earlier sample goes first."""

    def __init__(self) -> None:
        self.slots, self.in_flight, self.moved = SLOTS, 0, asyncio.Event()
        self.queue: asyncio.PriorityQueue[tuple[int, int, asyncio.Future[None]]] = asyncio.PriorityQueue()
        self.made = 0

    @property
    def short(self) -> bool:
        return self.in_flight + self.queue.qsize() < 1.5 * self.slots

    async def call(self, position: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.made += 1
        self.queue.put_nowait((position, self.made, turn))
        self._next()
        await turn
        await asyncio.sleep(0.002)
        self.in_flight -= 1
        self._next()
        self.moved.set()

    def _next(self) -> None:
        while self.in_flight < self.slots and not self.queue.empty():
            self.in_flight += 1
            self.queue.get_nowait()[2].set_result(None)


class Work:
    """Takes calls one after another and two at once for each sample, and notes how many samples are open."""

    def __init__(self, slots: Slots) -> None:
        self.slots, self.open, self.most_open = slots, 0, 0
        self.finished: list[int] = []
        self.transient: set[int] = set()
        self.failing: int | None = None

    async def __call__(self, sample: Sample, position: int) -> FinishedSample:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            for _ in range(3):
                await asyncio.gather(self.slots.call(position), self.slots.call(position))
            if position == self.failing:
                raise ValueError("a fault of the code")
        finally:
            self.open -= 1
        self.finished.append(position)
        return FinishedSample(f"row {position}", {"candidates": 2}, transient=position in self.transient)


@pytest.fixture
async def feeding(tmp_path: Path) -> AsyncIterator[Any]:
    """A feeder with its work, and the reasons with which it was stopped."""
    journal = await asyncio.to_thread(open_journal, tmp_path / "journal.sqlite")
    log = SimpleNamespace(error=lambda *_, **__: None)
    context: Any = SimpleNamespace(stop=None, log=log)
    stopped: list[LrfError] = []

    def feeder(work: Work) -> Feeder:
        return Feeder(context, Spool(journal), "stage", work.slots, 2, work, stopped.append, lambda: None)

    yield SimpleNamespace(feeder=feeder, stopped=stopped, context=context, spool=Spool(journal))
    await asyncio.to_thread(journal.close)


async def rows(feeding: Any) -> list[str]:
    return [row for _, row in await asyncio.to_thread(lambda: list(feeding.spool.rows("stage")))]


async def test_every_sample_is_finished_once_and_few_are_open_at_a_time(feeding: Any) -> None:
    work = Work(Slots())
    feeder = feeding.feeder(work)
    await feeder.feed(Data(60))
    assert sorted(work.finished) == list(range(60))
    assert await rows(feeding) == [f"row {n}" for n in range(60)]
    assert feeder.done == {"samples": 60, "candidates": 120}
    assert work.most_open <= MOST_OPEN


async def test_samples_are_finished_nearly_in_the_order_of_the_data(feeding: Any) -> None:
    work = Work(Slots())
    await feeding.feeder(work).feed(Data(60))
    assert max(abs(place - position) for place, position in enumerate(work.finished)) < MOST_OPEN


async def test_only_what_may_succeed_another_time_is_done_again(feeding: Any) -> None:
    first = Work(Slots())
    first.transient = {3, PAGE + 2}
    await feeding.feeder(first).feed(Data(PAGE + 5))
    second = Work(Slots())
    feeder = feeding.feeder(second)
    await feeder.feed(Data(PAGE + 7))
    assert sorted(second.finished) == [3, PAGE + 2, PAGE + 5, PAGE + 6]
    assert feeder.done["samples"] == PAGE + 7


async def test_rows_that_can_not_be_kept_stop_the_feeding(feeding: Any) -> None:
    feeder = feeding.feeder(Work(Slots()))

    async def full() -> None:
        raise RunError("the disk is full")

    feeder.spool.flush = full
    await feeder.feed(Data(3))
    assert [str(error) for error in feeding.stopped] == ["the disk is full"]


async def test_a_stop_opens_no_more_samples_and_keeps_what_is_finished(feeding: Any) -> None:
    work = Work(Slots())
    task = asyncio.create_task(feeding.feeder(work).feed(Data(1000)))
    while len(work.finished) < 5:  # noqa: ASYNC110 - the work has no event for it
        await asyncio.sleep(0.001)
    feeding.context.stop = RunInterruptedError("stopped")
    await task
    assert 5 <= len(work.finished) <= 5 + 2 * MOST_OPEN
    assert len(await rows(feeding)) == len(work.finished)


async def test_a_fault_stops_the_feeding_with_its_words(feeding: Any) -> None:
    work = Work(Slots())
    work.failing = 2
    await feeding.feeder(work).feed(Data(1000))
    assert str(feeding.stopped[0]) == "ValueError: a fault of the code"
    assert len(work.finished) <= 2 * MOST_OPEN


async def test_a_sample_whose_work_a_component_cancels_stops_the_feeding_and_is_not_lost_in_silence(
    feeding: Any,
) -> None:
    class Cancelling(Work):
        async def __call__(self, sample: Sample, position: int) -> Any:
            if position == 2:
                task = asyncio.current_task()
                assert task
                task.cancel()
            return await super().__call__(sample, position)

    await feeding.feeder(Cancelling(Slots())).feed(Data(1000))
    assert str(feeding.stopped[0]).startswith("a component cancelled its own task; mend it")
