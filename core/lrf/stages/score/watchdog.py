"""A watchdog that notices when no reply has come for long, and names the oldest call."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lrf.stages.progress import Stall

if TYPE_CHECKING:
    from lrf.engine.engine import Engine

STALL_S = 60.0
UNSTEADY_STALL_S = 6 * 3600.0
"""For judges whose time to reply says nothing (a batch API)."""
COMPUTING_WARN_S = 1800.0


@dataclass(slots=True)
class Watchdog:
    """Looks at the engine's counters now and then.

    Parameters
    ----------
    warn: called with the stall once for each ``stall_s`` without a reply; for a judge that computes in this process,
        once for each :data:`COMPUTING_WARN_S`.
    local: names of the judges that compute in this process.
    stall_s: seconds without a reply after which :meth:`look` reports a stall.
    """

    engine: Engine
    warn: Callable[[Stall], None]
    local: Collection[str] = ()
    stall_s: float = STALL_S
    clock: Callable[[], float] = time.monotonic
    _counters: object = None
    _moved: float = field(init=False)
    _warned: float = field(init=False)

    def __post_init__(self) -> None:
        self._moved = self._warned = self.clock()

    def look(self) -> Stall | None:
        """The stall, or None while replies come."""
        engine, now = self.engine, self.clock()
        counters = (engine.ledger.total(), engine.ledger.embedding_calls)
        if counters != self._counters:
            self._counters, self._moved, self._warned = counters, now, now
        if now - self._moved < self.stall_s:
            return None
        stall = self._stall(now)
        if now - self._warned >= (max(self.stall_s, COMPUTING_WARN_S) if stall.computing else self.stall_s):
            self._warned = now
            self.warn(stall)
        return stall

    def _stall(self, now: float) -> Stall:
        call = self.engine.oldest_call
        if call is None:
            scoring = self.engine.running.oldest
            stall = Stall(round(now - self._moved))
            return replace(stall, sample=scoring.sample, dimension=scoring.named.name) if scoring else stall
        return Stall(
            seconds=round(now - call.began),
            judge=call.judge,
            sample=call.caller.sample,
            dimension=call.caller.dimension,
            kind=call.kind,
            computing=call.judge in self.local,
        )
