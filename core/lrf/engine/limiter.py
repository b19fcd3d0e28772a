"""How many calls are in flight: a ceiling that follows the server, and an order among those that wait."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import statistics
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from lrf.engine.rate_limits import RateLimits, Sent
from lrf.errors import RunInterruptedError

Priority = tuple[int, int]
"""(sample's position, step): the smallest goes first, so samples are finished in order and memory stays flat."""


class _Waiter(NamedTuple):
    """Who waits, and for how much of a minute's requests and tokens. The number is its own, so order ends there."""

    priority: Priority
    number: int
    turn: asyncio.Future[Sent | None]
    requests: int
    tokens: float
    beginning: int | None


class Limiter:
    """A semaphore of ``ceiling`` slots whose waiters go by priority and whose size adapts.

    Additive increase, multiplicative decrease: the limit shrinks by 0.7 when a quarter of the last calls were refused
    for load (429, 503), or when replies took twice as long as usual, the median of as many as there are slots, twice
    one after another. Every call served lets it grow again by 1/limit. A single fault or slow reply changes nothing.
    Where less in flight didn't make replies faster, their slowness has another cause, and the limit is put back.

    A long beginning that several prompts share is computed once: while the first call with it is in flight, the others
    let those behind them go first. A slot never stays free for that.

    A few calls begin in one turn of the event loop, so that many beginnings at once don't hold up everything else.

    A slot is free again while the reply is being written, but what is sent and not yet committed, and so paid for again
    after a kill, is never more than twice the ceiling.

    ``rates``: what may be sent a minute, if that is limited; who waits for it holds no slot. ``adapts`` False: the
    limit stays, for a server where many calls fail together for another cause than load (a batch API).
    """

    WINDOW = 32
    THRESHOLD = 0.25
    SHRINK = 0.7
    SLICE = 4
    SLOW = 2.0
    HELPED = 0.9
    COMPUTED = 4096

    def __init__(self, ceiling: int, rates: RateLimits | None = None, *, adapts: bool = True) -> None:
        self.ceiling = ceiling
        self.adapts = adapts
        self.rates = rates
        self.limit = float(ceiling)
        self.in_flight = 0
        self.unwritten = 0
        self.draining = False
        self.on_release: Callable[[], None] = lambda: None
        self._waiters: list[_Waiter] = []
        self._computing: dict[int, list[_Waiter]] = {}  # beginnings in flight for the first time, and who holds back
        self._computed: OrderedDict[int, None] = OrderedDict()  # newest last
        self._count = itertools.count()
        self._window: deque[bool] = deque(maxlen=self.WINDOW)
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0
        self._stopping = asyncio.Event()
        self._slowness: list[float] = []
        self._skip = 0
        self._was_slow = False
        self._before: tuple[float, float] | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiters) + sum(map(len, self._computing.values()))

    @asynccontextmanager
    async def slot(
        self, priority: Priority, requests: int = 1, tokens: float = 0, beginning: int | None = None
    ) -> AsyncIterator[Sent | None]:
        """A place among the calls in flight, and what was noted as sent where rates are limited.

        ``beginning`` is a hash of a long beginning that the call's prompt may share with others.
        Raises :class:`lrf.errors.RunInterruptedError` once the run drains.
        """
        if self.draining:
            raise RunInterruptedError("the run is being stopped")
        turn: asyncio.Future[Sent | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, _Waiter(priority, next(self._count), turn, requests, tokens, beginning))
        self._wake()
        try:
            sent = await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                if self.rates and (unsent := turn.result()):
                    self.rates.settle(unsent, 0, 0)
                self._ended(beginning)
                self._release()
            raise
        try:
            yield sent
        except BaseException:
            self._ended(beginning)
            raise
        else:
            self._ended(beginning, computed=True)
        finally:
            self._release()

    def _release(self) -> None:
        self.in_flight -= 1
        self._wake()
        self.on_release()

    def _wake(self) -> None:
        while (
            self.in_flight < max(1, int(self.limit))
            and self.in_flight + self.unwritten < 2 * self.ceiling
            and self._begun < self.SLICE  # else the next turn of the loop goes on
            and (first := self._first())
        ):
            if self.rates and (wait_s := self.rates.wait_s(first.requests, first.tokens)) > 0:
                heapq.heappush(self._waiters, first)
                self._wake_after(wait_s)
                return
            self.in_flight += 1
            if not self._begun:
                asyncio.get_running_loop().call_soon(self._next_turn)
            self._begun += 1
            if first.beginning is not None and first.beginning not in self._computed:
                self._computing.setdefault(first.beginning, [])
            first.turn.set_result(self.rates.take(first.requests, first.tokens) if self.rates else None)

    def _first(self) -> _Waiter | None:
        """Who goes next, no longer among those that wait."""
        while self._waiters:
            first = heapq.heappop(self._waiters)
            if first.turn.done():  # cancelled
                continue
            holding_back = self._computing.get(first.beginning) if first.beginning is not None else None
            if holding_back is None:
                return first
            holding_back.append(first)
        held = [w for waiters in self._computing.values() for w in waiters if not w.turn.done()]
        if not held:
            return None
        first = min(held)
        assert first.beginning is not None
        self._computing[first.beginning].remove(first)
        return first

    def _ended(self, beginning: int | None, *, computed: bool = False) -> None:
        """Those that hold back go on: with what was computed, or, after a call that failed, the first of them alone."""
        if beginning is None:
            return
        if computed:
            self._computed[beginning] = None
            self._computed.move_to_end(beginning)
            if len(self._computed) > self.COMPUTED:
                self._computed.popitem(last=False)
        for waiter in self._computing.pop(beginning, ()):
            heapq.heappush(self._waiters, waiter)

    def replied(self) -> None:
        """Tell, while holding the slot, that a reply is going to be written."""
        self.unwritten += 1

    def written(self) -> None:
        """Tell that a reply has been committed, or couldn't be."""
        self.unwritten -= 1
        self._wake()

    def _next_turn(self) -> None:
        self._begun = 0
        self._wake()

    def _wake_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def served(self) -> None:
        """Tell that a call was served."""
        self._window.append(False)
        self.limit = min(float(self.ceiling), self.limit + 1 / self.limit)

    def refused(self) -> None:
        """Tell that a call was refused for load."""
        if not self.adapts:
            return
        self._window.append(True)
        if len(self._window) == self.WINDOW and sum(self._window) >= self.THRESHOLD * self.WINDOW:
            self.limit = max(1.0, self.limit * self.SHRINK)
            self._window.clear()

    def timed(self, slowness: float) -> float | None:
        """Tell how many times as long as usual a reply took.

        Returns what is to be taken as usual from now on, where replies stay slow whatever is in flight; else None.
        """
        if self._skip:  # sent before the limit shrank
            self._skip -= 1
            return None
        self._slowness.append(slowness)
        if len(self._slowness) < max(2 * self.WINDOW, int(self.limit)):
            return None
        median = statistics.median(self._slowness)
        self._slowness.clear()
        before, self._before = self._before, None
        if before is not None and median > self.HELPED * before[0]:
            self.limit, self._was_slow = max(self.limit, before[1]), False
            self._wake()
            return median
        slow = median >= self.SLOW
        if slow and (self._was_slow or before is not None) and self.limit > 1:
            self._before, self._skip = (median, self.limit), int(self.limit)
            self.limit = max(1.0, self.limit * self.SHRINK)
        self._was_slow = slow
        return None

    async def pause(self, seconds: float) -> None:
        """Wait without a slot. Raises :class:`lrf.errors.RunInterruptedError` as soon as the run drains."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise RunInterruptedError("the run is being stopped")

    def drain(self) -> None:
        """Let what is in flight finish, and nothing else start."""
        self.draining = True
        self._stopping.set()
        for waiter in itertools.chain(self._waiters, *self._computing.values()):
            if not waiter.turn.done():
                waiter.turn.set_exception(RunInterruptedError("the run is being stopped"))
        self._waiters.clear()
        self._computing.clear()
        if self._timer is not None:
            self._timer.cancel()

    def reopen(self) -> None:
        """Take calls again."""
        self.draining = False
        self._stopping.clear()
