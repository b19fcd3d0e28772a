"""Which waiting call goes next: a server's slots, and the order of the calls that wait for one."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lrf.engine.limiter import Limiter
from lrf.engine.rate_limits import RateLimits, Sent
from lrf.engine.stop import STOPPING, Stop
from lrf.errors import RunInterruptedError

FIRST = -1
"""The position of a call that goes before those of all samples."""


class _Waiter(NamedTuple):
    """A queued call. Ties of position are broken by its number; the other fields are never compared."""

    position: int
    number: int
    turn: asyncio.Future[Sent | None]
    requests: int
    tokens: float
    beginning: int | None


class CallQueue:
    """The calls to one server, those in flight and those that wait for a slot.

    The earliest sample's calls go first, whatever they are for, so samples are finished one after another. A slot never
    stays free while a call waits, except for the rates (requests and tokens a minute), in whose order of waiting the
    same holds.

    A long beginning that several prompts share is computed once: while the first call with it is in flight, the others
    let the calls behind them go first, if there are any.

    A slot is free again while the reply is being written. But what is sent and not yet committed, and so paid for again
    after a kill, never exceeds twice the limiter's ceiling.

    Parameters
    ----------
    limiter: how many calls may be in flight.
    rates: what may be sent a minute, or None where that isn't limited.
    stop: ends all waiting.

    Attributes
    ----------
    in_flight: calls that have a slot.
    unwritten: replies that have come and are not committed yet.
    on_move: called whenever a call begins to wait for a slot, and whenever a slot becomes free.
    """

    def __init__(self, limiter: Limiter, rates: RateLimits | None = None, stop: Stop | None = None) -> None:
        self.limiter = limiter
        self.rates = rates
        self.in_flight = 0
        self.unwritten = 0
        self.on_move: Callable[[], None] = lambda: None
        self._waiters: list[_Waiter] = []
        self._beginnings = _SharedBeginnings()
        self._count = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.obey(stop or Stop())

    def obey(self, stop: Stop) -> None:
        """Let this object stop the queue from now on."""
        self.stop = stop
        stop.listen(self._end_waiting)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiters) + self._beginnings.waiting

    def slot(self, position: int, requests: int = 1, tokens: float = 0, beginning: int | None = None) -> _Slot:
        """A slot among the calls in flight, and what was counted as sent where rates are limited.

        Parameters
        ----------
        position: the sample's place in the data, or :data:`FIRST`.
        requests, tokens: what the call counts as against the rates.
        beginning: a hash of a long beginning that the call's prompt may share with others.

        Entering it raises :class:`lrf.errors.RunInterruptedError` once the run is being stopped.
        """
        turn: asyncio.Future[Sent | None] = asyncio.get_running_loop().create_future()
        return _Slot(self, _Waiter(position, next(self._count), turn, requests, tokens, beginning))

    async def _take(self, waiter: _Waiter) -> Sent | None:
        """Wait until it is the call's turn."""
        self.stop.check()
        heapq.heappush(self._waiters, waiter)
        self._wake()
        self.on_move()
        turn = waiter.turn
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                if self.rates and (unsent := turn.result()):
                    self.rates.settle(unsent, 0, 0)
                self._end(waiter.beginning)
            raise

    def replied(self) -> None:
        """A reply has come, in a slot that is still taken, and is going to be written."""
        self.unwritten += 1

    def written(self) -> None:
        """A reply has been committed, or couldn't be."""
        self.unwritten -= 1
        self._wake()

    def _end(self, beginning: int | None, *, computed: bool = False) -> None:
        for waiter in self._beginnings.ended(beginning, computed=computed):
            heapq.heappush(self._waiters, waiter)
        self.in_flight -= 1
        self._wake()
        self.on_move()

    def _wake(self) -> None:
        """Give all free slots to waiting calls."""
        while (
            self.in_flight < self.limiter.slots
            and self.in_flight + self.unwritten < 2 * self.limiter.ceiling
            and (first := self._next())
        ):
            if self.rates and (wait_s := self.rates.wait_s(first.requests, first.tokens)) > 0:
                heapq.heappush(self._waiters, first)
                self._wake_after(wait_s)
                return
            self.in_flight += 1
            self._beginnings.begun(first.beginning)
            first.turn.set_result(self.rates.take(first.requests, first.tokens) if self.rates else None)

    def _next(self) -> _Waiter | None:
        """The call that goes next, taken out of the queue."""
        while self._waiters:
            first = heapq.heappop(self._waiters)
            if not first.turn.done() and not self._beginnings.hold_back(first):  # done: it was cancelled
                return first
        return self._beginnings.release_one()

    def _wake_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _end_waiting(self) -> None:
        for waiter in (*self._waiters, *self._beginnings.clear()):
            if not waiter.turn.done():
                waiter.turn.set_exception(RunInterruptedError(STOPPING))
        self._waiters.clear()
        if self._timer is not None:
            self._timer.cancel()


class _Slot:
    """A slot, taken and given back by ``async with``. A generator would take several times as long for each call."""

    __slots__ = ("_queue", "_waiter")

    def __init__(self, queue: CallQueue, waiter: _Waiter) -> None:
        self._queue = queue
        self._waiter = waiter

    async def __aenter__(self) -> Sent | None:
        return await self._queue._take(self._waiter)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue._end(self._waiter.beginning, computed=kind is None)


def short_of_calls(queues: Iterable[CallQueue]) -> bool:
    """Whether fewer calls are in flight and waiting than fill the slots and half as many again."""
    calls = slots = 0
    for queue in queues:
        calls += queue.in_flight + queue.waiting
        slots += queue.limiter.ceiling
    return calls < slots + slots // 2


class _SharedBeginnings:
    """The long beginnings of prompts that are being computed, and the calls that are held back for each."""

    REMEMBERED = 4096

    def __init__(self) -> None:
        self._computing: dict[int, list[_Waiter]] = {}
        self._computed: OrderedDict[int, None] = OrderedDict()  # newest last

    @property
    def waiting(self) -> int:
        return sum(map(len, self._computing.values()))

    def hold_back(self, waiter: _Waiter) -> bool:
        """Whether the call is held back, since one with its beginning is in flight for the first time."""
        held = self._computing.get(waiter.beginning) if waiter.beginning is not None else None
        if held is None:
            return False
        held.append(waiter)
        return True

    def release_one(self) -> _Waiter | None:
        """The first of all calls that are held back: no other call waits, so its slot would stay free."""
        if not self._computing:
            return None
        held = [waiter for waiters in self._computing.values() for waiter in waiters if not waiter.turn.done()]
        if not held:
            return None
        first = min(held)
        assert first.beginning is not None
        self._computing[first.beginning].remove(first)
        return first

    def begun(self, beginning: int | None) -> None:
        """A call with this beginning was sent."""
        if beginning is not None and beginning not in self._computed:
            self._computing.setdefault(beginning, [])

    def ended(self, beginning: int | None, *, computed: bool) -> list[_Waiter]:
        """The calls that were held back for this one. If it failed, the first of them is the next to go alone."""
        if beginning is None:
            return []
        if computed:
            self._computed[beginning] = None
            self._computed.move_to_end(beginning)
            if len(self._computed) > self.REMEMBERED:
                self._computed.popitem(last=False)
        return self._computing.pop(beginning, [])

    def clear(self) -> list[_Waiter]:
        """All calls that are held back, which are held back no more."""
        held = list(itertools.chain(*self._computing.values()))
        self._computing.clear()
        return held
