"""A cache of replies and embeddings that runs share."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from lrf.config import parse_pipeline
from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.errors import RunError
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from lrf.store.cache import open_journal
from lrf.store.journal import Journal
from lrf.store.kept import KeptReplies
from lrf.testing import ScriptedJudge


@pytest.fixture
def judge() -> ScriptedJudge:
    return ScriptedJudge()


async def ask(journal: Journal, judge: ScriptedJudge, text: str) -> BudgetLedger:
    calls = JudgeCalls("main", judge, journal, BudgetLedger())
    await calls.ask(Asked((Segment(text, trusted=False),), Rating(), 64, Caller("s", "d")))
    return calls.ledger


async def test_a_reply_that_another_run_paid_for_is_not_paid_for_again(tmp_path: Path, judge: ScriptedJudge) -> None:
    cache = tmp_path / "cache.sqlite"
    first = open_journal(tmp_path / "1.sqlite", cache)
    await ask(first, judge, "a")
    first.close()
    second = open_journal(tmp_path / "2.sqlite", cache)
    ledger = await ask(second, judge, "a")
    await ask(second, judge, "b")
    assert (len(judge.requests), ledger.total().reused) == (2, 1)
    assert sum(used.calls for used in second.usage()) == 1  # its own journal has what it paid for
    second.close()


async def test_a_reply_whose_caller_is_cancelled_in_that_moment_is_kept_in_both(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "1.sqlite", tmp_path / "cache.sqlite")
    request = Request((Segment("a", trusted=False),), Rating(), 64, 0.01)
    keeping = journal.commit_reply(b"key", "judge", request, Reply("[[7]]"), sample="s", dimension="d", seconds=1.0)
    task = asyncio.create_task(keeping)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    journal.close()
    for name in ("1.sqlite", "cache.sqlite"):
        assert KeptReplies(tmp_path / name).reply(b"key") is not None


async def test_a_reply_that_the_cache_lost_is_still_in_its_own_run(tmp_path: Path, judge: ScriptedJudge) -> None:
    for cache in ("first.sqlite", "second.sqlite"):
        journal = open_journal(tmp_path / "run.sqlite", tmp_path / cache)
        await ask(journal, judge, "a")
        journal.close()
    assert len(judge.requests) == 1


async def test_vectors_are_shared_too(tmp_path: Path) -> None:
    cache = tmp_path / "cache.sqlite"
    first = open_journal(tmp_path / "1.sqlite", cache)
    await first.commit_vectors("e", [b"k" * 16], np.ones((1, 2), dtype=np.float32), seconds=0.1)
    first.close()
    second = open_journal(tmp_path / "2.sqlite", cache)
    found = await second.vectors([b"k" * 16, b"x" * 16])
    assert found == {b"k" * 16: np.ones(2, dtype="<f4").tobytes()}
    second.close()


def test_without_a_cache_a_run_has_its_own_journal_only(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "1.sqlite")
    assert type(journal) is Journal
    journal.close()


def test_a_cache_in_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cache: there is no folder"):
        open_journal(None, tmp_path / "nowhere" / "cache.sqlite")


def test_a_cache_that_is_no_journal_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_text("Something else, long enough to be looked at. " * 40)
    with pytest.raises(RunError, match="can't be used as a journal"):
        open_journal(None, tmp_path / "cache.sqlite")


WRITER = """
import asyncio, sys
from pathlib import Path
from lrf.engine.asked import Asked
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.engine.budget import BudgetLedger
from lrf.prompting.expectations import Rating
from lrf.store.cache import CachedJournal
from lrf.prompting.templates import Segment
from lrf.testing import ScriptedJudge

async def work():
    journal = CachedJournal(Path(sys.argv[1]), Path(sys.argv[2]))
    calls = JudgeCalls("main", ScriptedJudge(lambda _: "[[5]]"), journal, BudgetLedger())
    asked = (calls.ask(Asked((Segment(str(i), trusted=False),), Rating(), 64, Caller("s", "d"))) for i in range(40))
    await asyncio.gather(*asked)
    journal.close()

asyncio.run(work())
"""


def test_several_processes_make_and_fill_one_cache_at_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache.sqlite"
    command = [sys.executable, "-c", WRITER]
    processes = [subprocess.Popen([*command, tmp_path / f"{i}.sqlite", cache]) for i in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    journal = Journal(cache)
    assert sum(used.calls for used in journal.usage()) == 40
    journal.close()


async def test_two_runs_of_one_pipeline_under_two_names_pay_once(tmp_path: Path, serve: Any) -> None:
    calls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"choices": [{"message": {"content": "[[7]]"}, "finish_reason": "stop"}]})

    row = {"id": "s", "context": "A text.", "query": "Which?", "candidates": [{"text": "yes"}, {"text": "no"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    address = await serve(answer)

    async def run(name: str) -> RunSummary:
        pipeline = {
            "name": name,
            "data": {"type": "jsonl", "path": "rows.jsonl"},
            "judges": {"main": {"type": "openai", "base_url": address, "model": "m"}},
            "dimensions": ["helpfulness"],
            "cache": "cache.sqlite",
        }
        catalog = load_catalog()
        return await run_pipeline(parse_pipeline(pipeline, catalog, folder=tmp_path), catalog, tmp_path / "runs")

    first, second = await run("one"), await run("two")
    assert calls == 2
    assert (first.stages["score"]["calls"], second.stages["score"]["calls"]) == (2, 0)
    assert (first.run_dir / "rewards.jsonl").read_bytes() == (second.run_dir / "rewards.jsonl").read_bytes()
