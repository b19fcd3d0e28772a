"""Waiting for what another process, thread or task does, for as long as a busy machine takes."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from concurrent.futures import Future


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


async def eventually(true: Callable[[], bool]) -> None:
    """``until`` for what happens on this event loop."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - of any kind
            await asyncio.sleep(0.005)


class FirstLine(io.StringIO):
    """Standard output, whose first line another thread waits for: the address of a server, say."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Future[str] = Future()

    def write(self, text: str) -> int:
        written = super().write(text)
        if text.strip() and not self.line.done():
            self.line.set_result(text.strip())
        return written
