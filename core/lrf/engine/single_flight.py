"""One call for equal questions that are asked at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from lrf.engine.faults import cancellation_of

T = TypeVar("T")

REMEMBERED = 1024
"""The last calls of which it is known that they have ended."""


class SingleFlight(Generic[T]):
    """Calls under way, by key. Everyone who asks the same meanwhile gets the same outcome.

    A waiter that is cancelled cancels no call. Each waiter has its own future, since ``asyncio.shield`` around the call
    would take two more turns of the event loop.

    ``landed``: how many calls have ended.
    """

    def __init__(self) -> None:
        self.landed = 0
        self._last: dict[bytes, None] = {}  # newest last
        self._under_way: dict[bytes, tuple[asyncio.Task[T] | None, list[asyncio.Future[T]]]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._under_way

    def landed_since(self, mark: int, key: bytes) -> bool:
        """Whether a call under this key may have ended since ``landed`` was ``mark``."""
        return self.landed - mark > REMEMBERED or (self.landed > mark and key in self._last)

    def join(self, key: bytes, begin: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Future[T]:
        """What the call under this key will bring; it is begun if none is under way."""
        if key not in self._under_way:
            task = asyncio.create_task(begin())
            self._under_way[key] = task, []
            task.add_done_callback(lambda landed: self._landed(key, landed))
        return self.wait(key)

    def wait(self, key: bytes) -> asyncio.Future[T]:
        """What the call that is under way under this key will bring."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way[key][1].append(waiter)
        return waiter

    def lead(self, key: bytes) -> None:
        """Begin to be the one who calls; :meth:`land` must follow. It takes no task, which many keys would feel."""
        self._under_way[key] = None, []

    def land(self, key: bytes, outcome: T | BaseException) -> None:
        """Give what the call brought to all who wait for it."""
        _, waiters = self._under_way.pop(key)
        self.landed += 1
        self._last.pop(key, None)
        self._last[key] = None
        if len(self._last) > REMEMBERED:
            del self._last[next(iter(self._last))]
        for waiter in waiters:
            if waiter.done():  # it was cancelled
                continue
            if isinstance(outcome, BaseException):  # CancelledError, too: it says whose code was at work
                waiter.set_exception(outcome)
                waiter.exception()  # seen, also when the waiter is cancelled in this very turn
            else:
                waiter.set_result(outcome)

    def _landed(self, key: bytes, task: asyncio.Task[T]) -> None:
        # looked at, also when every waiter has gone
        error = cancellation_of(task) if task.cancelled() else task.exception()
        self.land(key, task.result() if error is None else error)

    async def aclose(self) -> None:
        """Give up all calls that have a task; the others end with whoever leads them."""
        while tasks := [task for task, _ in self._under_way.values() if task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # the outcomes are handed on
