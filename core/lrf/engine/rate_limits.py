"""Requests and tokens a minute: a provider's limits, respected in advance so that it refuses nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S, BURST_S, SECOND_S = 60.0, 6.0, 1.0

LATE_S = 1.0
"""How much later than another a request may reach the server (connecting, a busy machine).

A minute of the server's has no more than the limit even then.
"""


@dataclass(slots=True)
class Sent:
    """HTTP requests and tokens that were sent together, and when (monotonic seconds)."""

    at: float
    requests: float
    tokens: float


class _Window:
    """A limit within any ``seconds``, of "requests" or of "tokens".

    ``strict``: the limit is never exceeded. Otherwise the last call may exceed it, so that calls that are large beside
    it use all of a minute's limit, too.
    """

    def __init__(self, unit: str, limit: float, seconds: float, *, strict: bool) -> None:
        self._unit = unit
        self._limit = limit
        self._seconds = seconds
        self._strict = strict
        self._sent: deque[Sent] = deque()
        self._sum = 0.0

    def free_at(self, amount: float, now: float) -> float:
        """The time from which ``amount`` may be sent. More than the whole limit may be sent into an empty window."""
        while self._sent and self._sent[0].at + self._seconds <= now:
            self._sum -= getattr(self._sent.popleft(), self._unit)
        left, need = self._sum, amount if self._strict else min(amount, 1)
        for sent in self._sent:
            if left + need <= self._limit:
                return now
            left -= getattr(sent, self._unit)
            now = sent.at + self._seconds
        return now

    def add(self, sent: Sent) -> None:
        self._sent.append(sent)
        self._sum += getattr(sent, self._unit)

    def correct(self, sent: Sent, amount: float) -> None:
        """Count what was sent as ``amount`` instead; without effect once it has left the window."""
        if self._sent and sent.at >= self._sent[0].at:
            self._sum += amount - getattr(sent, self._unit)


class RateLimits:
    """Limits of what may be sent a minute.

    In any 61 seconds (the first moment included, the last one not) no more than the limits are sent, so that no minute
    of the server's sees more. Within it they are spread: once a tenth of them was sent in 6 seconds, or a sixtieth in
    one (both rounded up), the next call waits. So 6 seconds of the server's see a tenth and a sixtieth at most, however
    late each request arrives, and where tokens are limited two calls' more. A call that is larger than a minute's limit
    goes alone. A call counts at its worst case until :meth:`settle` says what it took.
    """

    def __init__(self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits_tokens = tokens is not None
        self._clock = clock
        self._windows: list[_Window] = []
        for unit, a_minute in (("requests", requests), ("tokens", tokens)):
            if a_minute is not None:
                self._windows.append(_Window(unit, a_minute, MINUTE_S + LATE_S, strict=True))
                self._windows += [
                    _Window(unit, math.ceil(a_minute * seconds / MINUTE_S), seconds, strict=False)
                    for seconds in (BURST_S, SECOND_S)
                ]

    def wait_s(self, requests: float, tokens: float) -> float:
        """Seconds until this may be sent; 0 for now."""
        now = self._clock()
        need = {"requests": requests, "tokens": tokens}
        return max((w.free_at(need[w._unit], now) for w in self._windows), default=now) - now

    def take(self, requests: float, tokens: float) -> Sent:
        """Count what is being sent."""
        sent = Sent(self._clock(), requests, tokens)
        for window in self._windows:
            window.add(sent)
        return sent

    def settle(self, sent: Sent, requests: float, tokens: float) -> None:
        """Correct what was sent to what it really took."""
        for window in self._windows:
            window.correct(sent, requests if window._unit == "requests" else tokens)
        sent.requests, sent.tokens = requests, tokens
