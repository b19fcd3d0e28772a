"""Waiting for a server that has gone away, for as long as `patience` says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lrf.errors import RunInterruptedError
from lrf.types import JSON

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(slots=True)
class Patience:
    """How long training waits for a server, and what is said of it.

    Parameters
    ----------
    whom: the server, in a sentence: "the judge".
    seconds: of waiting at most, each time.
    report: takes a note when the waiting begins.
    stopping: whether the user wants the training to stop, which ends the waiting.
    """

    whom: str
    seconds: float
    report: Callable[[Mapping[str, JSON]], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    stopping: Callable[[], bool] = lambda: False

    def ended(self, why: object) -> str:
        """The sentence of an error: patience has ended."""
        return f"training has waited {self.seconds:.0f} s for {self.whom} (patience): {why}"


@dataclass(slots=True)
class Wait:
    """One time of waiting, in pauses that double up to a minute."""

    patience: Patience
    until: float | None = None
    pause_s: float = _FIRST_PAUSE_S

    @property
    def began(self) -> bool:
        return self.until is not None

    def pause(self, why: object) -> bool:
        """Wait a while; False if the server's time is up instead.

        Raises :class:`lrf.errors.RunInterruptedError` when the user stops the training meanwhile.
        """
        patience = self.patience
        if self.until is None:
            limit = f"for {patience.seconds:.0f} s at most (patience)"
            patience.report({"note": f"training waits for {patience.whom}, {limit}: {why}"})
            self.until = patience.clock() + patience.seconds
        end = patience.clock() + self.pause_s
        if end > self.until:
            return False
        self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
        while (left := end - patience.clock()) > 0:
            if patience.stopping():
                raise RunInterruptedError(f"the training was stopped while it waited for {patience.whom}")
            patience.sleep(min(left, _FIRST_PAUSE_S))
        return True
