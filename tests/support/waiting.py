"""Waiting for what another process, thread or task does, for as long as a busy machine takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


async def eventually(true: Callable[[], bool]) -> None:
    """``until`` for what happens on this event loop."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - of any kind
            await asyncio.sleep(0.005)
