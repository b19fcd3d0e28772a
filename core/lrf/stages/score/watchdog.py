"""A watchdog: when nothing has moved for long, it names the call that is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.engine.engine import Engine

STUCK_S = 60.0
UNSTEADY_STUCK_S = 6 * 3600.0
"""For judges that answer when they like (a batch API)."""


@dataclass(slots=True)
class Watchdog:
    """Looks at the engine's books now and then. ``warn`` is called once for each ``stuck_s`` without a move."""

    engine: Engine
    warn: Callable[[Mapping[str, JSON]], None]
    stuck_s: float = STUCK_S
    clock: Callable[[], float] = time.monotonic
    _books: JSON = None
    _moved: float = field(init=False)
    _warned: float = field(init=False)

    def __post_init__(self) -> None:
        self._moved = self._warned = self.clock()

    def look(self) -> Mapping[str, JSON] | None:
        """What is stuck: judge, sample, dimension, kind and the seconds since it was sent; None while things move.

        Without a call in flight only ``seconds`` and ``waiting`` are told: every call waits for its next try.
        """
        engine, now = self.engine, self.clock()
        total = engine.ledger.total()
        books = (total, engine.ledger.embedding_calls)
        if books != self._books:
            self._books, self._moved, self._warned = books, now, now
        if now - self._moved < self.stuck_s:
            return None
        call = engine.oldest_call
        found: Mapping[str, JSON]
        if call is None:
            found = {"waiting": engine.waiting, "seconds": round(now - self._moved)}
        else:
            found = {
                "judge": call.judge,
                "sample": call.caller.sample,
                "dimension": call.caller.dimension,
                "kind": call.kind,
                "seconds": round(now - call.began),
            }
        if now - self._warned >= self.stuck_s:
            self._warned = now
            self.warn(found)
        return found
