"""A server that fails in every way at once: each row is accounted for, and all of them are scored."""

from __future__ import annotations

import pytest

from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.engine.latency import Latency
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from project import Project


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Latency, "SHORTEST_S", 1.0)
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.01)


async def test_a_server_that_fails_in_every_way_costs_no_row(
    project: Project, judge_server: JudgeServer, quick: None
) -> None:
    project.write_data(8)
    for kind, times in (("429", 5), ("503", 3), ("hang", 1), ("garbage", 3), ("cut", 3), ("empty", 1), ("html", 1)):
        judge_server.fault(kind, times)
    pipeline = parse_pipeline(project.pipeline(), load_catalog(), folder=project.folder)
    summary = await run_pipeline(pipeline, load_catalog(), project.runs)
    score = summary.stages["score"]
    assert (summary.exit_code, score["candidates"], score["scored"], score["unscored"]) == (0, 40, 40, 0)
    assert len(project.lines("rewards.jsonl")) == 40
    assert score["asked_again"] == 3 + 3 + 1  # nonsense, cut off, empty
    assert score["faults"] == 5 + 3 + 1 + 1  # refused, hung, HTML in place of a reply
    assert judge_server.books.calls == 80 + score["asked_again"] + 1
