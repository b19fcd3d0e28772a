"""What follows from a failed call to any server: another attempt, the sample's failure, or the end of the run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from lrf.engine.limiter import Limiter
from lrf.engine.refusals import Refusal, Refusals
from lrf.engine.stop import Stop
from lrf.engine.waits import Wait, one_line, summed
from lrf.errors import (
    BadReplyError,
    JudgeError,
    JudgeMisconfiguredError,
    JudgeSilentError,
    LrfError,
    RateLimitedError,
    RejectedError,
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
    * a refused request is not tried again: its sample is unscored, and a later run of the same command asks again,
      unless it was billed (:mod:`lrf.engine.refusals` says when refusals stop the run);
    * a server that no request can succeed at stops the run, unless it may be this request's fault and the server has
      served others;
    * a server that is called and serves nothing at all for long stops the run, instead of leaving every row unscored.

    Attributes
    ----------
    name: the server as errors call it: "judges.main".
    limiter: learns from every outcome.
    stop: ends all pauses.
    oldest: gives the time at which the oldest call in flight was sent, None without one.
    count: attempts made again so far.
    """

    name: str
    limiter: Limiter
    stop: Stop = field(default_factory=Stop)
    oldest: Callable[[], float | None] = lambda: None
    count: int = 0
    _pauses: dict[object, Wait] = field(default_factory=dict)
    _refusals: Refusals = field(init=False)
    _silent_since: float | None = field(default=None)
    _running: int = 0
    _ran: float = 0.0

    def __post_init__(self) -> None:
        self._refusals = Refusals(self.name)

    async def run(self, call: Callable[[], Awaitable[T]], sample: str = "") -> T:
        """The result of the call, which is for this sample.

        Raises :class:`lrf.errors.UnscorableError` or a fatal error.
        """
        if not self._running and time.monotonic() - self._ran > PATIENCE_S:
            self._silent_since = None  # it wasn't called meanwhile
        self._running += 1
        try:
            return await self._until_served(call, sample)
        finally:
            self._running -= 1
            self._ran = time.monotonic()

    async def _until_served(self, call: Callable[[], Awaitable[T]], sample: str) -> T:
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
                if isinstance(error, UnavailableError) or not self.served_any:
                    self._check_patience(error)
                if faults >= FAULTS:
                    raise UnscorableError(error.reason, f"{error} ({faults} times)", transient=True) from error
                pause_s = max(backoff_s(faults), _asked_s(error) or 0.0)
            except (RejectedError, JudgeMisconfiguredError) as error:
                raise self._refused(error, sample) from error
            else:
                self.limiter.served()
                self._refusals.served()
                self._silent_since = None
                return result
            await self._pause(pause_s, status)

    @property
    def served_any(self) -> bool:
        """Whether the server has served anything."""
        return self._refusals.served_any

    def _refused(self, error: Refusal, sample: str) -> LrfError:
        """What follows from a refusal: the sample's failure, or the end of the run."""
        if isinstance(error, JudgeMisconfiguredError) and error.certain:
            return error
        self.limiter.unsure = self.limiter.adapts and not self.served_any
        if fatal := self._refusals.refused(error, sample, time.monotonic(), self.oldest()):
            return fatal
        reason = error.reason if isinstance(error, RejectedError) else RejectedError.reason
        return UnscorableError(reason, str(error), refused=not error.sent)

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
        if self.served_any and not self.limiter.adapts:
            return  # a batch API: its failures come together, and hours apart
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        asked_s = _asked_s(error)
        patient = self.served_any or isinstance(error, RateLimitedError) or asked_s is not None
        patience_s = PATIENCE_S if patient else PATIENCE_BEFORE_ANY_REPLY_S
        patience_s = max(patience_s, 2 * (asked_s or 0.0))  # a server that asked for a long wait may ask once more
        if now - self._silent_since > patience_s:
            raise JudgeSilentError(
                f"{self.name} has served nothing for {patience_s:.0f} s (last: {error}). "
                "What is done is kept: mend it and run the same command again"
            )


def _asked_s(error: JudgeError) -> float | None:
    """Seconds for which the server itself asked to be left alone."""
    if isinstance(error, RateLimitedError | UnavailableError) and error.retry_after_s is not None:
        return min(LONGEST_RETRY_AFTER_S, error.retry_after_s)
    return None
