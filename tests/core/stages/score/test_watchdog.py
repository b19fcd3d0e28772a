"""The watchdog names the oldest call when no reply comes, and is quiet while replies come."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.paid_call import Caller
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.stages.progress import Stall
from lrf.stages.score.watchdog import Watchdog
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge


class Nothing:
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return None


def engine_of(judge: ScriptedJudge) -> Engine:
    journal, ledger, observers = Journal(), BudgetLedger(), Observers(None, lambda *_: None)
    judges = judge_calls({"main": judge}, journal, ledger, observers, seed=0)
    return Engine((), judges, {}, {}, Nothing(), journal, ledger, observers)


@pytest.mark.parametrize(("local", "warnings"), [((), 2), (("main",), 0)])
async def test_a_call_without_a_reply_is_named_and_warned_of_once_a_minute_unless_it_computes_here(
    local: tuple[str, ...], warnings: int
) -> None:
    hung, sent = asyncio.Event(), asyncio.Event()

    async def hang(request: Request) -> str:
        sent.set()
        await hung.wait()
        return "[[5]]"

    engine = engine_of(ScriptedJudge(hang))
    now = began = asyncio.get_running_loop().time()
    warned: list[Stall] = []
    watchdog = Watchdog(engine, warned.append, local, stall_s=60, clock=lambda: now)
    prompt = (Segment("rate", trusted=False),)
    call = asyncio.create_task(engine.judges["main"].ask(Asked(prompt, Rating(), 64, Caller("s-7", "charm"))))
    await sent.wait()
    assert watchdog.look() is None
    now = began + 59
    assert watchdog.look() is None
    for seconds in (61, 90, 125):
        now = began + seconds
        stall = watchdog.look()
        assert stall is not None
        assert replace(stall, seconds=0) == Stall(0, "main", "s-7", "charm", "rating", computing=bool(local))
    assert len(warned) == warnings

    hung.set()
    await call
    assert watchdog.look() is None
    assert engine.oldest_call is None
    engine.journal.close()


async def test_silence_without_a_call_in_flight_is_a_stall_that_names_no_call() -> None:
    engine = engine_of(ScriptedJudge())
    now = 0.0
    watchdog = Watchdog(engine, lambda _: None, stall_s=60, clock=lambda: now)
    watchdog.look()
    now = 61.0
    assert watchdog.look() == Stall(61)
    engine.journal.close()
