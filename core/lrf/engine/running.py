"""The dimensions at work: which is the oldest, and an end to those that hang when a run is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lrf.engine.faults import owned
from lrf.engine.panel import NamedDimension
from lrf.store import forks

QUIET_S = 3.0
"""Seconds without any call, after a stop, after which the dimensions that are still at work are cancelled."""

_LOOK_S = 0.1


def uncancel() -> None:
    """Let the current task continue, however often it was cancelled."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


@dataclass(frozen=True, slots=True)
class DimensionAtWork:
    """A dimension at work on a candidate since ``began`` (of the monotonic clock)."""

    named: NamedDimension
    sample: str
    candidate: str
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"{owned(f'dimensions.{self.named.name}', self.named.dimension)} on sample {self.sample}"


@dataclass(slots=True)
class RunningDimensions:
    """The dimensions that are at work, the oldest first. ``cancelled`` are those that were ended."""

    _tasks: dict[asyncio.Task[Any], DimensionAtWork] = field(default_factory=dict)
    cancelled: set[asyncio.Task[Any]] = field(default_factory=set)
    _ending: asyncio.Task[None] | None = None

    @property
    def oldest(self) -> DimensionAtWork | None:
        return next(iter(self._tasks.values()), None)

    def of(self, task: asyncio.Task[Any] | None) -> DimensionAtWork | None:
        """What this task works on, if it is a dimension's."""
        return None if task is None else self._tasks.get(task)

    @contextmanager
    def entered(self, named: NamedDimension, sample: str, candidate: str) -> Iterator[None]:
        """The current task works on this candidate within the block."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = scoring = DimensionAtWork(named, sample, candidate)
        before = forks.count
        try:
            yield
        finally:
            if forks.count != before:
                forks.end_child(str(scoring))
            del self._tasks[task]

    def was_cancelled(self) -> bool:
        """Whether the current task was ended because it hung; it may then continue."""
        task = asyncio.current_task()
        if task is None or task not in self.cancelled:
            return False
        self.cancelled.discard(task)
        uncancel()
        return True

    def end(self, busy: Callable[[], bool], note: Callable[[str], object]) -> None:
        """Cancel what is at work, once nothing has been ``busy`` for :data:`QUIET_S`; ``note`` says what it was."""
        if self._ending is None or self._ending.done():
            self._ending = asyncio.get_running_loop().create_task(self._end(busy, note))

    async def _end(self, busy: Callable[[], bool], note: Callable[[str], object]) -> None:
        quiet_since = time.monotonic()
        while self._tasks:
            if busy():
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= QUIET_S:
                others = f" and {len(self._tasks) - 1} more" if len(self._tasks) > 1 else ""
                note(f"{self.oldest}{others} didn't end and was cancelled")
                self.cancelled |= self._tasks.keys()
                for task in list(self._tasks):
                    task.cancel()
                return
            await asyncio.sleep(_LOOK_S)
