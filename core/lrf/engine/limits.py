"""How many calls are in flight: a ceiling that follows the server, and an order among those that wait."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lrf.errors import Interrupted

Priority = tuple[int, int]
"""(sample's position, step): the smallest goes first, so samples are finished in order and memory stays flat."""


class Limiter:
    """A semaphore of ``ceiling`` slots whose waiters go by priority and whose size adapts.

    Additive increase, multiplicative decrease: when a quarter of the last calls were refused for load (429, 503),
    the limit shrinks by 0.7; every call served lets it grow again by 1/limit. A single fault changes nothing.
    """

    WINDOW = 32
    THRESHOLD = 0.25
    SHRINK = 0.7

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self.in_flight = 0
        self.draining = False
        self._waiters: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        self._window: deque[bool] = deque(maxlen=self.WINDOW)
        self._stopping = asyncio.Event()
        self.on_release: Callable[[], None] = lambda: None

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[None]:
        """A place among the calls in flight. Raises :class:`lrf.errors.Interrupted` once the run drains."""
        if self.draining:
            raise Interrupted("the run is being stopped")
        if self.in_flight >= int(self.limit) or self._waiters:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiters, (priority, next(self._count), turn))
            self._wake()
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    self._release()
                raise
        else:
            self.in_flight += 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        self.in_flight -= 1
        self._wake()
        self.on_release()

    def _wake(self) -> None:
        while self._waiters and self.in_flight < max(1, int(self.limit)):
            _, _, turn = heapq.heappop(self._waiters)
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def served(self) -> None:
        """Tell that a call was served."""
        self._window.append(False)
        self.limit = min(float(self.ceiling), self.limit + 1 / self.limit)

    def refused(self) -> None:
        """Tell that a call was refused for load."""
        self._window.append(True)
        if len(self._window) == self.WINDOW and sum(self._window) >= self.THRESHOLD * self.WINDOW:
            self.limit = max(1.0, self.limit * self.SHRINK)
            self._window.clear()

    async def pause(self, seconds: float) -> None:
        """Wait without a slot. Raises :class:`lrf.errors.Interrupted` as soon as the run drains."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Interrupted("the run is being stopped")

    def drain(self) -> None:
        """Let what is in flight finish, and nothing else start."""
        self.draining = True
        self._stopping.set()
        for _, _, turn in self._waiters:
            if not turn.done():
                turn.set_exception(Interrupted("the run is being stopped"))
        self._waiters.clear()

    def reopen(self) -> None:
        """Take calls again."""
        self.draining = False
        self._stopping.clear()
