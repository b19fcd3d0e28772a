"""How many calls a server may have in flight: a limit that follows how the server copes."""

from __future__ import annotations

import statistics
from collections import deque


class Limiter:
    """A limit of calls in flight, from 1 to ``ceiling``, that grows slowly and shrinks fast.

    Additive increase, multiplicative decrease (Chiu and Jain 1989): the limit shrinks by :data:`SHRINK` when a quarter
    of the last :data:`WINDOW` calls were refused for load (429, 503), or when replies took twice as long as usual, the
    median of as many as there are slots, twice in a row. Every call served lets it grow by 1/limit. A single fault or
    slow reply changes nothing. Where fewer calls in flight didn't make replies faster, their slowness has another
    cause, and the limit is put back.

    Parameters
    ----------
    ceiling: the most calls in flight, 1 or more.
    adapts: False for a limit that never changes, for a server where many calls fail together for another reason than
        load (a batch API).

    Attributes
    ----------
    unsure: a server has refused requests and served none. It may refuse all, so one call at a time is sent until it
        serves one.
    """

    WINDOW = 32
    THRESHOLD = 0.25
    SHRINK = 0.7
    SLOW = 2.0
    HELPED = 0.9

    def __init__(self, ceiling: int, *, adapts: bool = True) -> None:
        self.ceiling = ceiling
        self.adapts = adapts
        self.limit = float(ceiling)
        self.unsure = False
        self._refusals: deque[bool] = deque(maxlen=self.WINDOW)
        self._slowness: list[float] = []
        self._ignored = 0  # replies still to come of calls that were sent before the limit shrank
        self._was_slow = False
        self._before_shrinking: tuple[float, float] | None = None  # the median slowness and the limit of then

    @property
    def slots(self) -> int:
        """Calls that may be in flight now, 1 or more."""
        return 1 if self.unsure else max(1, int(self.limit))

    def served(self) -> None:
        """A call was served."""
        self.unsure = False
        self._refusals.append(False)
        self.limit = min(float(self.ceiling), self.limit + 1 / self.limit)

    def refused(self) -> None:
        """A call was refused for load."""
        if not self.adapts:
            return
        self._refusals.append(True)
        if len(self._refusals) == self.WINDOW and sum(self._refusals) >= self.THRESHOLD * self.WINDOW:
            self.limit = max(1.0, self.limit * self.SHRINK)
            self._refusals.clear()

    def timed(self, slowness: float) -> float | None:
        """A reply took ``slowness`` times as long as usual.

        Returns what is to be taken as usual from now on, where replies stay slow whatever is in flight; else None.
        """
        if self._ignored:
            self._ignored -= 1
            return None
        self._slowness.append(slowness)
        if len(self._slowness) < max(2 * self.WINDOW, int(self.limit)):
            return None
        median = statistics.median(self._slowness)
        self._slowness.clear()
        before, self._before_shrinking = self._before_shrinking, None
        if before is not None and median > self.HELPED * before[0]:
            self.limit, self._was_slow = max(self.limit, before[1]), False
            return median
        slow = median >= self.SLOW
        if slow and (self._was_slow or before is not None) and self.limit > 1:
            self._before_shrinking, self._ignored = (median, self.limit), int(self.limit)
            self.limit = max(1.0, self.limit * self.SHRINK)
        self._was_slow = slow
        return None
