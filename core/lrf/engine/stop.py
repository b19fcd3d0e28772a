"""How a run is stopped: one object that everything which begins calls, or waits to, looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lrf.errors import LrfError, RunInterruptedError

STOPPING = "the run is being stopped"


class Stop:
    """Whether a run is being stopped, and why.

    Calls in flight are finished and kept. Whatever waits (for a slot, for the budget, for another attempt) ends with
    :class:`lrf.errors.RunInterruptedError`.

    Attributes
    ----------
    reason: the first reason given; None while the run continues.
    """

    def __init__(self) -> None:
        self.reason: LrfError | None = None
        self._event = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def stopping(self) -> bool:
        return self.reason is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call the listener whenever the run is stopped."""
        self._listeners.append(listener)

    def set(self, reason: LrfError | None = None) -> None:
        """Stop the run. Only the first reason counts."""
        self.reason = self.reason or reason or RunInterruptedError("stopped")
        self._event.set()
        for listener in self._listeners:
            listener()

    def clear(self) -> None:
        """Take calls again."""
        self.reason = None
        self._event.clear()

    def check(self) -> None:
        """Raises :class:`lrf.errors.RunInterruptedError` if the run is being stopped."""
        if self.stopping:
            raise RunInterruptedError(STOPPING)

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises :class:`lrf.errors.RunInterruptedError` as soon as the run is stopped."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        self.check()
