"""Few beginnings in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets a few go on at once and the others in the next turns of the event loop.

    Where an index or notes become ready, all candidates of a sample have questions at the same moment; making up all
    of them would keep the event loop from everything else for tens of milliseconds.
    """

    FEW = 8

    def __init__(self) -> None:
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next)
        if self._begun < self.FEW and not self._waiting:
            self._begun += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self.FEW:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next)
