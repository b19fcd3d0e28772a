"""How a run is stopped."""

from __future__ import annotations

import asyncio

import pytest

from lrf.engine.stop import Stop
from lrf.errors import BudgetError, RunInterruptedError


async def test_a_stop_ends_pauses_at_once_and_tells_all_who_listen() -> None:
    stop = Stop()
    told: list[str] = []
    stop.listen(lambda: told.append("stopped"))
    pause = asyncio.create_task(stop.pause(3600))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(RunInterruptedError):
        await pause
    assert told == ["stopped"]


async def test_a_pause_ends_by_itself() -> None:
    assert await Stop().pause(0.001) is None


def test_the_first_reason_of_a_stop_counts_until_it_is_cleared() -> None:
    stop = Stop()
    first = BudgetError("the budget is reached")
    stop.set(first)
    stop.set(RunInterruptedError("Ctrl-C"))
    assert stop.reason is first
    with pytest.raises(RunInterruptedError):
        stop.check()
    stop.clear()
    stop.check()
