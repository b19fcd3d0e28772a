"""Further attempts by class of error, for judges, embedders and samplers alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from lrf.engine.limiter import Limiter
from lrf.engine.stop import Stop
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
from lrf.http.backoff import backoff_s

T = TypeVar("T")

FAULTS = 5
LONGEST_RETRY_AFTER_S = 900.0
PATIENCE_S, PATIENCE_BEFORE_ANY_REPLY_S = 300.0, 20.0


@dataclass(slots=True)
class Retries:
    """Keeps calling one server until it answers, or until another attempt makes no sense.

    * a rate limit waits as long as the server asks (else with doubling pauses) and uses up no attempt;
    * a fault (no connection, 5xx, time-out, unreadable reply) is tried :data:`FAULTS` times, after no shorter a
      pause than the server asks for;
    * a rejected request is not tried again;
    * a server that is called and serves nothing at all for long stops the run, instead of leaving every row unscored.

    Attributes
    ----------
    name: the server as errors call it: "judges.main".
    limiter: learns from every outcome.
    stop: ends all pauses.
    count: attempts made again so far.
    """

    name: str
    limiter: Limiter
    stop: Stop = field(default_factory=Stop)
    count: int = 0
    _pauses: dict[object, Wait] = field(default_factory=dict)
    _served: bool = False
    _silent_since: float | None = field(default=None)
    _running: int = 0
    _ran: float = 0.0

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call. Raises :class:`lrf.errors.UnscorableError` or a fatal error."""
        if not self._running and time.monotonic() - self._ran > PATIENCE_S:
            self._silent_since = None  # it wasn't called meanwhile
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
                asked_s = _asked_s(error)
                pause_s = backoff_s(waits) if asked_s is None else asked_s
            except (UnavailableError, TimedOutError, BadReplyError) as error:
                faults, status = faults + 1, one_line(error)
                if isinstance(error, UnavailableError):
                    self.limiter.refused()
                if isinstance(error, UnavailableError) or not self._served:
                    self._check_patience(error)
                if faults >= FAULTS:
                    raise UnscorableError(error.reason, f"{error} ({faults} times)", transient=True) from error
                pause_s = max(backoff_s(faults), _asked_s(error) or 0.0)
            except RejectedError as error:
                raise UnscorableError(error.reason, str(error)) from error
            else:
                self.limiter.served()
                self._served, self._silent_since = True, None
                return result
            await self._pause(pause_s, status)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The wait in force now; empty while no call waits for its next attempt."""
        return summed(self._pauses.values())

    async def _pause(self, seconds: float, status: str) -> None:
        self.count += 1
        mark = object()
        self._pauses[mark] = Wait(self.name, status, time.monotonic() + seconds)
        try:
            await self.stop.pause(seconds)
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
        asked_s = _asked_s(error)
        patient = self._served or isinstance(error, RateLimitedError) or asked_s is not None
        patience_s = PATIENCE_S if patient else PATIENCE_BEFORE_ANY_REPLY_S
        patience_s = max(patience_s, 2 * (asked_s or 0.0))  # a server that asked for a long wait may ask once more
        if now - self._silent_since > patience_s:
            raise StageError(
                f"{self.name} has served nothing for {patience_s:.0f} s (last: {error}). "
                "What is done is kept: mend it and run the same command again"
            )


def _asked_s(error: JudgeError) -> float | None:
    """Seconds for which the server itself asked to be left alone."""
    if isinstance(error, RateLimitedError | UnavailableError) and error.retry_after_s is not None:
        return min(LONGEST_RETRY_AFTER_S, error.retry_after_s)
    return None
