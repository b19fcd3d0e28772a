"""One call for equal questions that are asked at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

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
        self._last: deque[bytes] = deque(maxlen=REMEMBERED)
        self._under_way: dict[bytes, tuple[asyncio.Task[T], list[asyncio.Future[T]]]] = {}

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
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way[key][1].append(waiter)
        return waiter

    def _landed(self, key: bytes, task: asyncio.Task[T]) -> None:
        _, waiters = self._under_way.pop(key)
        self.landed += 1
        self._last.append(key)
        error = None if task.cancelled() else task.exception()  # seen, also when every waiter has gone
        for waiter in waiters:
            if waiter.done():  # it was cancelled
                continue
            if task.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(error)
                waiter.exception()  # seen, also when the waiter is cancelled in this very turn
            else:
                waiter.set_result(task.result())

    async def aclose(self) -> None:
        """Give up all calls."""
        while tasks := [task for task, _ in self._under_way.values()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # the outcomes are handed on
