"""A watchdog names the call that is stuck, and is quiet while anything moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from lrf.cli.progress import line_of
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.judge_calls import Caller
from lrf.engine.observers import Observers
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.stages.score.watchdog import Watchdog
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge

PROGRESS = {
    "stage": "score", "samples": 1, "of_samples": 2, "candidates": 1, "of_candidates": 2, "unscored": 0, "calls": 3,
    "reused": 0, "faults": 0, "in_flight": 1, "tokens": 9,
}  # fmt: skip


class Nothing:
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return None


def engine_of(judge: ScriptedJudge) -> Engine:
    journal, ledger, observers = Journal(), BudgetLedger(), Observers(None, lambda *_: None)
    judges = judge_calls({"main": judge}, journal, ledger, observers, seed=0)
    return Engine((), judges, {}, {}, Nothing(), journal, ledger, observers)


async def test_a_call_that_never_ends_is_named_with_its_judge_sample_dimension_and_kind() -> None:
    hung, sent = asyncio.Event(), asyncio.Event()

    async def hang(request: Request) -> str:
        sent.set()
        await hung.wait()
        return "[[5]]"

    engine = engine_of(ScriptedJudge(hang))
    now = engine_began = asyncio.get_running_loop().time()
    warned: list[Any] = []
    watchdog = Watchdog(engine, warned.append, stuck_s=60, clock=lambda: now)
    prompt = (Segment("rate", trusted=False),)
    call = asyncio.create_task(engine.judges["main"].ask(prompt, Rating(), 64, Caller("s-7", "charm")))
    await sent.wait()
    assert watchdog.look() is None
    now = engine_began + 59
    assert (watchdog.look(), warned) == (None, [])
    now = engine_began + 61
    stuck = watchdog.look()
    assert stuck is not None
    assert {**stuck, "seconds": None} == {
        "judge": "main", "sample": "s-7", "dimension": "charm", "kind": "rating", "seconds": None,
    }  # fmt: skip
    now = engine_began + 90
    watchdog.look()
    assert len(warned) == 1  # once a minute, not at each look
    now = engine_began + 125
    watchdog.look()
    assert len(warned) == 2

    hung.set()
    await call
    assert watchdog.look() is None
    assert engine.oldest_call is None
    engine.journal.close()


async def test_when_every_call_waits_for_its_next_try_that_is_told() -> None:
    engine = engine_of(ScriptedJudge())
    now = 0.0
    watchdog = Watchdog(engine, lambda _: None, stuck_s=60, clock=lambda: now)
    watchdog.look()
    now = 61.0
    assert watchdog.look() == {"waiting": 0, "seconds": 61}
    engine.journal.close()


def test_the_line_of_progress_ends_with_what_is_stuck() -> None:
    stuck = {"judge": "main", "sample": "s\x1b[31m", "dimension": "charm", "kind": "rating", "seconds": 75}
    assert line_of({**PROGRESS, "stuck": stuck}).endswith(
        "9 tokens; stuck for 75 s: charm (rating) of sample s\\x1b[31m by main"
    )
    assert line_of({**PROGRESS, "stuck": {"waiting": 3, "seconds": 61}}).endswith("every call waits for its next try")
    assert line_of({**PROGRESS, "stuck": None}).endswith("9 tokens")
