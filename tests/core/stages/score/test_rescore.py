"""``lrf rescore``: only what is missing or named is asked again, through real runs against a server on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lrf.cli.main import invoke
from lrf.config import parse_pipeline
from lrf.errors import ConfigError, RunError
from lrf.plugin.catalog import load_catalog
from lrf.stages.run_dir import RunDir
from lrf.stages.runner import run_pipeline
from lrf.stages.score.rescore import Rescore, begin_rescore
from lrf.stages.summary import RunSummary

ANSWERS = ("good one", "bad two", "good three", "awful four")


class Server:
    """A judge that rates every answer 5, and says nothing useful of what ``broken`` matches."""

    def __init__(self, broken: str = "never") -> None:
        self.broken = broken
        self.rating = 5
        self.status = 200
        self.asked: list[str] = []

    async def __call__(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][0]["content"]
        answer = re.findall(r"<answer>\n(.*?)\n</answer>", prompt)[-1]
        if self.status != 200:
            return web.json_response({"error": {"message": "away"}}, status=self.status)
        self.asked.append(answer)
        text = "I'd rather not." if re.search(self.broken, answer) else f"Fine. [[{self.rating}]]"
        return web.json_response({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    def take(self) -> Counter[str]:
        asked, self.asked = Counter(self.asked), []
        return asked


Run = Callable[..., Any]


@pytest.fixture
def score(tmp_path: Path, serve: Any) -> Run:
    """``await score(server, rescore=None, dimensions=[…])`` runs the pipeline in the same directory each time."""
    rows = [
        {"id": f"s{i}", "context": "A text.", "query": "Which?", "candidates": [{"id": f"c{i}", "text": answer}]}
        for i, answer in enumerate(ANSWERS)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    addresses: dict[int, str] = {}

    async def run(
        server: Server, rescore: Rescore | None = None, dimensions: tuple[str, ...] = ("helpfulness",), **more: Any
    ) -> RunSummary:
        if id(server) not in addresses:
            addresses[id(server)] = await serve(server.__call__)
        pipeline = {
            "name": "again",
            "data": {"type": "jsonl", "path": "rows.jsonl"},
            "judges": {"main": {"type": "openai", "base_url": addresses[id(server)], "model": "m"}},
            "dimensions": list(dimensions),
            "max_unscored": 1.0,
            **more,
        }
        catalog = load_catalog()
        checked = parse_pipeline(pipeline, catalog, folder=tmp_path)

        def begin(run: RunDir) -> dict[str, object]:
            return {"candidates": begin_rescore(checked, run, rescore)} if rescore else {}

        return await run_pipeline(checked, catalog, tmp_path / "runs", before=begin)

    return run


def rescored(summary: RunSummary) -> int:
    """How many candidates the last rescore concerned, as the log says."""
    events = [json.loads(line) for line in (summary.run_dir / "log.jsonl").read_text().splitlines()]
    count: int = [event for event in events if event["event"] == "before the run"][-1]["candidates"]
    return count


def rewards(summary: RunSummary) -> dict[str, float | None]:
    text = (summary.run_dir / "rewards.jsonl").read_text()
    return {row["candidate_id"]: row["reward"] for row in map(json.loads, text.splitlines())}


FAILED, HELPFULNESS = Rescore(failed=True), Rescore(dimensions=("helpfulness",))


async def test_failed_questions_are_asked_again_and_nothing_else_is(score: Run) -> None:
    server = Server(broken="bad|awful")
    first = await score(server)
    assert server.take() == {"good one": 1, "good three": 1, "bad two": 5, "awful four": 5}
    assert rewards(first) == {"c0": 5.0, "c1": None, "c2": 5.0, "c3": None}

    server.broken = "awful"
    second = await score(server, FAILED)
    assert server.take() == {"bad two": 1, "awful four": 5}
    assert rescored(second) == 2
    assert rewards(second) == {"c0": 5.0, "c1": 5.0, "c2": 5.0, "c3": None}

    await score(server)  # a plain run afterwards knows what was rescored
    assert server.take() == {}
    third = await score(server, FAILED)
    assert server.take() == {"awful four": 5}
    assert rewards(third) == rewards(second)


async def test_with_nothing_unscored_nothing_is_done(score: Run) -> None:
    server = Server()
    before = await score(server)
    server.take()
    after = await score(server, FAILED)
    assert (rescored(after), server.take(), rewards(after)) == (0, {}, rewards(before))


async def test_a_named_dimension_is_asked_anew_and_the_others_are_not(score: Run) -> None:
    server = Server()
    both = ("helpfulness", "logicality")
    await score(server, dimensions=both)
    assert server.take() == dict.fromkeys(ANSWERS, 2)
    server.rating = 9
    summary = await score(server, HELPFULNESS, dimensions=both)
    assert server.take() == dict.fromkeys(ANSWERS, 1)
    rows = map(json.loads, (summary.run_dir / "rewards.jsonl").read_text().splitlines())
    assert [row["ratings"] for row in rows] == [{"helpfulness": 9.0, "logicality": 5.0}] * 4
    await score(server, dimensions=both)
    assert server.take() == {}


async def test_a_dimension_can_be_rescored_again_and_again(score: Run) -> None:
    server = Server()
    await score(server)
    for _ in range(3):
        server.take()
        await score(server, HELPFULNESS)
        assert server.take() == dict.fromkeys(ANSWERS, 1)


async def test_what_was_paid_for_stays_in_the_journal(score: Run) -> None:
    from lrf.store.journal import Journal

    server = Server(broken="bad")
    await score(server)
    await score(server, HELPFULNESS)
    summary = await score(server, FAILED)
    journal = Journal(summary.run_dir / "journal.sqlite")
    assert sum(used.calls for used in journal.usage()) == len(server.asked) == 8 + 8 + 5
    journal.close()


@pytest.mark.parametrize("rescore", [FAILED, HELPFULNESS])
async def test_an_interrupted_rescore_resumes_where_it_was(score: Run, rescore: Rescore) -> None:
    server = Server(broken="bad|awful")
    await score(server)
    server.take()
    server.broken = "never"
    stopped = await score(server, rescore, budget={"calls": 13})  # one call more than were made
    assert stopped.status == "stopped"
    assert sum(server.take().values()) == 1
    finished = await score(server, rescore)
    assert sum(server.take().values()) == (2 if rescore.failed else 4) - 1
    assert set(rewards(finished).values()) == {5.0}


async def test_a_plain_run_finishes_an_interrupted_rescore_too(score: Run) -> None:
    server = Server()
    await score(server)
    await score(server, HELPFULNESS, budget={"calls": 5})
    await score(server)
    assert sum(server.take().values()) == 8
    await score(server, HELPFULNESS)  # the one before is finished, so this is another one
    assert server.take() == dict.fromkeys(ANSWERS, 1)


async def test_another_rescore_waits_until_an_interrupted_one_is_finished(score: Run) -> None:
    server = Server()
    await score(server)
    await score(server, HELPFULNESS, budget={"calls": 5})
    with pytest.raises(RunError, match="`lrf rescore --dimension helpfulness` isn't finished"):
        await score(server, FAILED)


async def test_a_candidate_that_a_filter_held_back_gets_another_try_each_time(score: Run) -> None:
    class Filtering(Server):
        filters = True

        async def __call__(self, request: web.Request) -> web.Response:
            if not self.filters:
                return await super().__call__(request)
            self.asked.append("filtered")
            choice = {"message": {"content": ""}, "finish_reason": "content_filter"}
            return web.json_response({"choices": [choice]})

    server = Filtering()
    await score(server)
    assert server.take() == {"filtered": 4}
    await score(server, FAILED)
    assert server.take() == {"filtered": 4}
    server.filters = False
    healed = await score(server, FAILED)
    assert server.take() == dict.fromkeys(ANSWERS, 1)
    assert set(rewards(healed).values()) == {5.0}


async def test_a_dimension_that_is_not_there_is_named_with_those_that_are(score: Run) -> None:
    server = Server()
    await score(server)
    with pytest.raises(ConfigError, match=r"no dimension is named 'helpfulnes'; allowed: helpfulness; did you mean"):
        await score(server, Rescore(dimensions=("helpfulnes",)))


async def test_before_anything_was_scored_there_is_nothing_to_score_again(score: Run) -> None:
    with pytest.raises(RunError, match="nothing has been scored yet; `lrf run` comes first"):
        await score(Server(), FAILED)


async def test_the_command_asks_again_or_says_so(
    score: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(broken="bad")
    summary = await score(server)
    arguments = [str(summary.run_dir / "pipeline.yaml"), "--runs", str(tmp_path / "runs")]
    server.broken = "never"
    server.take()
    assert await asyncio.to_thread(invoke, ["rescore", *arguments, "--failed"]) == 0
    assert server.take() == {"bad two": 1}
    assert await asyncio.to_thread(invoke, ["rescore", *arguments, "--failed"]) == 0
    assert "nothing is unscored" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--failed", "--dimension", "helpfulness"]])
def test_the_command_wants_one_option(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("name: x")
    assert invoke(["rescore", str(tmp_path / "p.yaml"), *options]) == 2
    assert "either --failed or --dimension" in capsys.readouterr().err


async def test_a_rescore_that_is_killed_asks_only_the_calls_in_flight_again(score: Run, tmp_path: Path) -> None:
    class Slow(Server):
        wait_s = 0.0

        async def __call__(self, request: web.Request) -> web.Response:
            reply = await super().__call__(request)
            await asyncio.sleep(self.wait_s * len(self.asked))  # one after the other
            return reply

    server = Slow()
    summary = await score(server)
    server.take()
    command = (sys.executable, "-m", "lrf", "rescore", str(summary.run_dir / "pipeline.yaml"))
    server.wait_s, server.rating = 0.5, 8
    process = await asyncio.create_subprocess_exec(
        *command, "--runs", str(tmp_path / "runs"), "--dimension", "helpfulness", stderr=asyncio.subprocess.DEVNULL
    )
    journal = summary.run_dir / "journal.sqlite"
    await asyncio.to_thread(_wait_for, journal, 5)
    process.kill()
    await process.wait()
    kept = _replies(journal) - 4
    assert kept >= 1
    server.wait_s = 0.0
    server.take()
    again = await score(server, HELPFULNESS)
    assert sum(server.take().values()) == 4 - kept
    assert set(rewards(again).values()) == {8.0}


def _replies(journal: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])


def _wait_for(journal: Path, replies: int) -> None:
    while _replies(journal) < replies:
        time.sleep(0.02)
