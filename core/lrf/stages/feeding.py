"""The loop that feeds the samples of the data to what works on them: the engine, or the sampler.

Every sample that is finished is committed to the journal's rows, and the stage's files are made of these in the data's
order at the end. A later run finds the rows of finished samples there, and does again those that failed for a reason
that may pass.

How many samples are open at once decides two things: that no slot for calls is idle, and that samples are finished one
after another, so that an interrupted run leaves results. So only as many are opened at first as fill the slots with
their first calls, and half as many again, which wait. Whenever a call begins or ends, or a sample ends, and fewer calls
are left than that, one more sample is opened. Calls of earlier samples go first (see ``lrf.engine.queue``). The number
of open samples has a ceiling, so memory doesn't grow with the data.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from lrf.engine.faults import at_work_in, cancellation_of, owned
from lrf.errors import LrfError
from lrf.protocols import Source
from lrf.stages.context import StageContext
from lrf.stages.reading import samples
from lrf.store.spool import PAGE, Spool
from lrf.types import Sample

TICK_S = 0.25
IDLE_S = 0.05
"""Seconds without any call or sample that begins or ends, after which another sample is opened if calls are few."""

AT_ONCE = 64
"""The calls that samples make at first in one turn of the event loop: what else is under way has its turn, too."""

MOST_OPEN = 16
"""The ceiling of open samples, where twice the number of slots is less."""


class Load(Protocol):
    """How busy the slots for calls are.

    ``short``: whether fewer calls are in flight and waiting than fill the slots and half as many again. ``moved`` is
    set whenever a call begins to wait or ends and this is so.
    """

    @property
    def slots(self) -> int: ...
    @property
    def short(self) -> bool: ...
    @property
    def moved(self) -> asyncio.Event: ...


@dataclass(frozen=True, slots=True)
class FinishedSample:
    """The outcome of a sample: its row in the journal, what it adds to the counts, and whether to do it again later."""

    row: str
    counts: Mapping[str, int]
    transient: bool = False


@dataclass(slots=True)
class Feeder:
    """Takes all samples of a source through ``work``, each once, and keeps their rows.

    Parameters
    ----------
    stage: the fingerprint under which the journal keeps the rows.
    load: the slots that are to be filled.
    calls_each: the calls that a sample makes at first.
    work: makes the row of a sample at a position of the data. What it raises stops the run.
    stop: called with the first error; it lets calls in flight finish and no other begin.
    report: called now and then, and at the end.
    done: what is finished so far: "samples", and what the rows count.
    """

    context: StageContext
    spool: Spool
    stage: str
    load: Load
    calls_each: int
    work: Callable[[Sample, int], Awaitable[FinishedSample]]
    stop: Callable[[LrfError], None]
    report: Callable[[], None]
    done: Counter[str] = field(default_factory=Counter)
    _finished: Mapping[int, bytes] = field(default_factory=dict)
    _failure: LrfError | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def _stopping(self) -> bool:
        return self._failure is not None or self.context.stop is not None

    async def feed(self, source: Source) -> None:
        """Return when every sample is finished, or, after a stop, when those that were open have ended."""
        ticker = asyncio.create_task(self._tick())
        try:
            try:
                await self._open_all(samples(source))
            except Exception as error:  # what is in flight is paid for, so it is finished first
                self._failed("the data can't be read on", error)
            while self._open:
                await asyncio.wait(self._open)
            try:
                await self.spool.flush()
            except LrfError as error:
                self._failed("the rows can't be kept", error)
        finally:
            ticker.cancel()
            self.report()

    async def _open_all(self, rows: AsyncIterator[tuple[int, Sample, bytes]]) -> None:
        begun, last = 0, await self.spool.last_position(self.stage)
        async for position, sample, digest in rows:
            if self._stopping:
                return
            if position <= last and await self._is_finished(position, digest):
                self.done.update(samples=1, candidates=len(sample.candidates))
                continue
            await self._room()
            if self._stopping:
                return
            begun += max(1, self.calls_each)
            if begun >= AT_ONCE:
                begun = 0
                await asyncio.sleep(0)
            task = asyncio.create_task(self._finish(sample, position, digest))
            self._open.add(task)
            task.add_done_callback(self._ended)

    async def _room(self) -> None:
        """Return when another sample is to be opened, or none any more."""
        load = self.load
        first = 1 + (load.slots + load.slots // 2) // max(1, self.calls_each)
        ceiling = max(MOST_OPEN, 2 * load.slots)
        while not self._stopping and len(self._open) >= min(first, ceiling):
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await load.moved.wait()
            load.moved.clear()
            if len(self._open) < ceiling and load.short:
                return

    async def _is_finished(self, position: int, digest: bytes) -> bool:
        """Whether a final row of this sample is kept. Asked for one position after another: they are read in pages."""
        if position % PAGE == 0:
            self._finished = await self.spool.finished(self.stage, position)
        return self._finished.get(position) == digest

    async def _finish(self, sample: Sample, position: int, digest: bytes) -> None:
        made = await self.work(sample, position)
        await self.spool.add_row(self.stage, position, sample.id, digest, made.row, transient=made.transient)
        for name, count in (("samples", 1), *made.counts.items()):
            self.done[name] += count

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self.load.moved.set()
        error = _fault(task) if task.cancelled() else task.exception()
        if error is not None:
            self._failed("a sample failed", error)

    def _failed(self, event: str, error: BaseException) -> None:
        if not isinstance(error, LrfError):
            cause, error = error, LrfError(f"{type(error).__name__}: {error}")
            self.context.log.error(event, error=str(error), exc_info=cause)
        self._failure = self._failure or error
        self.stop(error)

    async def _tick(self) -> None:
        while True:
            self.report()
            await asyncio.sleep(TICK_S)


def _fault(task: asyncio.Task[None]) -> LrfError:
    """The error for a sample whose task was cancelled, which lrf itself doesn't do."""
    at_work = at_work_in(cancellation_of(task))
    whose = owned(*at_work[:2]) if at_work else "a component"
    return LrfError(f"{whose} cancelled its own task; mend it and run the same command again")
