"""Requests and tokens a minute: what a provider allows, kept to beforehand instead of being refused."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S, BURST_S = 60.0, 6.0


@dataclass(slots=True)
class Sent:
    """What was sent when: so many HTTP requests, so many tokens."""

    at: float
    requests: float
    tokens: float


class _Window:
    """No more than ``limit`` within any ``seconds``, of one of the two things that are limited."""

    def __init__(self, what: str, limit: float, seconds: float) -> None:
        self._what = what
        self._limit = limit
        self._seconds = seconds
        self._sent: deque[Sent] = deque()
        self._sum = 0.0

    def free_at(self, amount: float, now: float) -> float:
        """When so much more may be sent. More than the whole limit goes as soon as nothing else is in the window."""
        while self._sent and self._sent[0].at + self._seconds <= now:
            self._sum -= getattr(self._sent.popleft(), self._what)
        left = self._sum
        for sent in self._sent:
            if left + amount <= self._limit:
                return now
            left -= getattr(sent, self._what)
            now = sent.at + self._seconds
        return now

    def add(self, sent: Sent) -> None:
        self._sent.append(sent)
        self._sum += getattr(sent, self._what)

    def correct(self, sent: Sent, amount: float) -> None:
        """Count what was sent as this much instead; nothing changes once it has left the window."""
        if self._sent and sent.at >= self._sent[0].at:
            self._sum += amount - getattr(sent, self._what)


class RateLimits:
    """How much may be sent a minute.

    In any 60 seconds (the first moment included, the last one not) no more than the limits are sent, and in any 6
    seconds no more than a tenth of them, rounded up: bursts are that long. A call that is larger than a limit goes
    alone. A call counts as what it may take at most until :meth:`settle` says what it took.
    """

    def __init__(self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits_tokens = tokens is not None
        self._clock = clock
        self._windows = [
            _Window(what, limit, seconds)
            for what, a_minute in (("requests", requests), ("tokens", tokens))
            if a_minute is not None
            for limit, seconds in ((a_minute, MINUTE_S), (math.ceil(a_minute * BURST_S / MINUTE_S), BURST_S))
        ]

    def wait_s(self, requests: float, tokens: float) -> float:
        """Seconds until so much may be sent; 0: now."""
        now = self._clock()
        need = {"requests": requests, "tokens": tokens}
        return max((w.free_at(need[w._what], now) for w in self._windows), default=now) - now

    def take(self, requests: float, tokens: float) -> Sent:
        """Note that so much is being sent."""
        sent = Sent(self._clock(), requests, tokens)
        for window in self._windows:
            window.add(sent)
        return sent

    def settle(self, sent: Sent, requests: float, tokens: float) -> None:
        """Note what it really took."""
        for window in self._windows:
            window.correct(sent, requests if window._what == "requests" else tokens)
        sent.requests, sent.tokens = requests, tokens
