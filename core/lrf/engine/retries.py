"""Trying again by class of error, for judges and embedders alike."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from lrf.engine.limiter import Limiter
from lrf.engine.waits import Wait, one_line, summed
from lrf.errors import (
    BadReplyError,
    JudgeError,
    RateLimitedError,
    RejectedError,
    StageError,
    TimedOutError,
    UnavailableError,
    UnscorableError,
)

T = TypeVar("T")

FAULTS = 5
BACKOFF_S, LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S = 0.5, 60.0, 900.0
PATIENCE_S, PATIENCE_BEFORE_ANY_REPLY_S = 300.0, 20.0


@dataclass(slots=True)
class Retries:
    """Keeps calling one server until it answers or it makes no sense to go on.

    * a rate limit waits as long as the server says (else with doubling pauses) and uses up no try;
    * a fault (no connection, 5xx, time-out, unreadable reply) is tried :data:`FAULTS` times, after no shorter a
      pause than the server asks for;
    * a rejected request is not tried again;
    * a server that is asked and serves nothing at all for long stops the run, instead of every row becoming unscored.

    ``count`` is how many tries were made again so far.
    """

    name: str
    limiter: Limiter
    count: int = 0
    _pauses: dict[object, Wait] = field(default_factory=dict)
    _served: bool = False
    _silent_since: float | None = field(default=None)
    _running: int = 0
    _ran: float = 0.0

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call returns. Raises :class:`lrf.errors.UnscorableError` or a fatal error."""
        if not self._running and time.monotonic() - self._ran > PATIENCE_S:
            self._silent_since = None  # nobody asked meanwhile
        self._running += 1
        try:
            return await self._until_served(call)
        finally:
            self._running -= 1
            self._ran = time.monotonic()

    async def _until_served(self, call: Callable[[], Awaitable[T]]) -> T:
        faults = waits = 0
        while True:
            try:
                result = await call()
            except RateLimitedError as error:
                waits, status = waits + 1, one_line(error)
                self.limiter.refused()
                self._check_patience(error)
                wished = _wished(error)
                pause = _backoff(waits) if wished is None else wished
            except (UnavailableError, TimedOutError, BadReplyError) as error:
                faults, status = faults + 1, one_line(error)
                if isinstance(error, UnavailableError):
                    self.limiter.refused()
                if isinstance(error, UnavailableError) or not self._served:
                    self._check_patience(error)
                if faults >= FAULTS:
                    raise UnscorableError(error.reason, f"{error} ({faults} times)", transient=True) from error
                pause = max(_backoff(faults), _wished(error) or 0.0)
            except RejectedError as error:
                raise UnscorableError(error.reason, str(error)) from error
            else:
                self.limiter.served()
                self._served, self._silent_since = True, None
                return result
            await self._pause(pause, status)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The wait in force now; empty while no call waits for its next try."""
        return summed(self._pauses.values())

    async def _pause(self, seconds: float, status: str) -> None:
        self.count += 1
        mark = object()
        self._pauses[mark] = Wait(self.name, status, time.monotonic() + seconds)
        try:
            await self.limiter.pause(seconds)
        finally:
            del self._pauses[mark]

    def reset(self) -> None:
        """Begin to be patient anew."""
        self._silent_since = None

    def _check_patience(self, error: JudgeError) -> None:
        if self._served and not self.limiter.adapts:
            return  # a batch API: its failures come together, and hours apart
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        wished = _wished(error)
        patient = self._served or isinstance(error, RateLimitedError) or wished is not None
        patience = PATIENCE_S if patient else PATIENCE_BEFORE_ANY_REPLY_S
        patience = max(patience, 2 * (wished or 0.0))  # who was sent away for long may be sent away once more
        if now - self._silent_since > patience:
            raise StageError(
                f"{self.name} has served nothing for {patience:.0f} s (last: {error}). "
                "What is done is kept: mend it and run the same command again"
            )


def _wished(error: JudgeError) -> float | None:
    """Seconds that the server itself asked to be left alone for."""
    if isinstance(error, RateLimitedError | UnavailableError) and error.retry_after_s is not None:
        return min(LONGEST_RETRY_AFTER_S, error.retry_after_s)
    return None


def _backoff(n: int) -> float:
    """Seconds: doubling, and spread so that calls which failed together don't come back together."""
    longest: float = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(n - 1, 20))
    return longest * random.uniform(0.5, 1.0)
