"""A frozen calibration set: scored at the start and at the end, never answered by a cache, told when ratings moved."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.errors import ConfigError
from lrf.planning.plan import plan_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.stages.score.calibration import calibration_samples, drift, drift_alarms
from lrf.stages.score.result import Drift
from lrf.stages.summary import RunSummary
from lrf.types import Reward
from project import Project, sample_row


def reward(**ratings: float | None) -> Reward:
    return Reward("s", "c", None, ratings)


def test_drift_is_the_mean_absolute_difference_of_what_was_rated_both_times() -> None:
    first = [reward(a=5.0, b=1.0), reward(a=8.0, b=None), reward(a=None, b=None)]
    last = [reward(a=6.0, b=1.0), reward(a=6.0, b=4.0), reward(a=9.0, b=None)]
    moved = drift(first, last, 1.4)
    assert moved == Drift(candidates=3, rated_twice={"a": 2, "b": 1}, drift={"a": 1.5, "b": 0.0}, max_drift=1.4)
    (alarm,) = drift_alarms(moved)
    assert (alarm.alarm, alarm.dimension, alarm.drift, alarm.of) == ("drift", "a", 1.5, 2)
    assert "moved by 1.5" in alarm.message
    assert drift_alarms(replace(moved, max_drift=1.5)) == []
    assert drift_alarms(None) == []


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1))
def test_drift_is_none_for_the_same_ratings_and_never_above_the_scale(pairs: list[tuple[float, float]]) -> None:
    first, last = ([reward(a=rating) for rating in column] for column in zip(*pairs, strict=True))
    assert drift(first, first, 1).drift == {"a": 0.0}
    assert 0 <= drift(first, last, 1).drift["a"] <= 10
    assert drift(first, last, 1) == drift(last, first, 1)


def calibrate(project: Project, **changes: Any) -> dict[str, Any]:
    """A pipeline with a calibration set of two samples that are none of the data's."""
    rows = [{**sample_row(50 + n), "id": f"calibration-{n}"} for n in range(2)]
    file = project.folder / "calibration.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return project.pipeline(**{"calibration": {"path": "calibration.jsonl"}, **changes})


async def run(project: Project, pipeline: dict[str, Any]) -> RunSummary:
    parsed = parse_pipeline(pipeline, load_catalog(), folder=project.folder)
    return await run_pipeline(parsed, load_catalog(), project.runs)


def of_the_set(prompt: str) -> bool:
    return any(f"Contract {100 * number + 100} " in prompt for number in (50, 51))


async def test_the_set_is_scored_twice_and_in_no_file(project: Project, judge_server: JudgeServer) -> None:
    summary = await run(project, calibrate(project))
    score = summary.stages["score"]
    assert judge_server.books.calls == 3 * 10 + 2 * (2 * 10)
    assert score["calls"] == judge_server.books.calls
    assert score["calibration"]["candidates"] == 10
    assert score["calibration"]["drift"] == {"helpfulness": 0.0, "logicality": 0.0}
    assert score["alarms"] == []
    assert (score["samples"], score["candidates"]) == (3, 15)
    assert not [row for row in project.lines("rewards.jsonl") if "calibration" in row["sample_id"]]
    seen = judge_server.books.prompts
    assert of_the_set(seen[-1])
    assert sum(map(of_the_set, seen[:30])) == 20  # the first time comes with the first calls
    again = await run(project, calibrate(project))
    assert judge_server.books.calls == 70
    assert again.stages["score"]["calibration"] == score["calibration"]


async def test_a_judge_that_rates_otherwise_later_raises_an_alarm(project: Project, judge_server: JudgeServer) -> None:
    asked: dict[str, int] = {}

    def reply(prompt: str, temperature: float) -> str:
        asked[prompt] = asked.get(prompt, 0) + 1
        rating = random.Random(hashlib.sha256(prompt.encode()).digest()).randrange(5)
        return f"Rating: [[{rating + (3 if asked[prompt] > 1 else 0)}]]"

    judge_server.reply = reply
    score = (await run(project, calibrate(project))).stages["score"]
    assert set(score["calibration"]["drift"].values()) == {3.0}
    assert {alarm["dimension"] for alarm in score["alarms"] if alarm["alarm"] == "drift"} == {
        "helpfulness",
        "logicality",
    }
    high = calibrate(project, name="patient", calibration={"path": "calibration.jsonl", "max_drift": 3.5})
    asked.clear()
    score = (await run(project, high)).stages["score"]
    assert [alarm for alarm in score["alarms"] if alarm["alarm"] == "drift"] == []


async def test_no_cache_and_no_other_run_answers_for_the_set(project: Project, judge_server: JudgeServer) -> None:
    for name in ("one", "two"):
        await run(project, calibrate(project, name=name, cache="shared.sqlite"))
    assert judge_server.books.calls == 30 + 40 + 40


async def test_a_budget_counts_the_set_and_it_is_paid_for_once(project: Project, judge_server: JudgeServer) -> None:
    stopped = await run(project, calibrate(project, budget={"calls": 55}))
    assert stopped.status == "stopped"
    assert "calibration" not in stopped.stages["score"]
    assert judge_server.books.calls == 55
    done = await run(project, calibrate(project))
    assert done.exit_code == 0
    assert done.stages["score"]["calibration"]["rated_twice"] == {"helpfulness": 10, "logicality": 10}
    assert judge_server.books.calls == 70


async def test_a_plan_counts_the_set_twice(project: Project) -> None:
    def plan(pipeline: dict[str, Any]) -> Any:
        return plan_pipeline(parse_pipeline(pipeline, load_catalog(), folder=project.folder), priced_samples=2)

    without, with_set = await plan(project.pipeline()), await plan(calibrate(project))
    assert without.total().calls == 30
    assert with_set.total().calls == 70
    assert with_set.calibration_samples == 2
    assert (with_set.samples, with_set.candidates) == (3, 15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read"),
        ("", "has no candidates"),
        ('{"context": "c", "query": "q"}\n', "has no candidates"),
        ("{\n", "calibration.jsonl:1: not JSON"),
        ("[" * 100_000, "calibration.jsonl:1: not usable JSON: nested too deeply"),
        ('{"context": "c"}\n', "calibration.jsonl:1: query"),
    ],
)
async def test_an_unusable_calibration_set_stops_the_run_before_anything_is_paid_for(
    project: Project, judge_server: JudgeServer, text: str | None, message: str
) -> None:
    pipeline = calibrate(project)
    file = project.folder / "calibration.jsonl"
    file.unlink() if text is None else file.write_text(text, encoding="utf-8")
    summary = await run(project, pipeline)
    assert (summary.status, summary.exit_code) == ("failed", 2)
    assert message in summary.message
    assert judge_server.books.calls == 0


def test_a_set_may_have_documents_in_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "doc.txt").write_text("A document.", encoding="utf-8")
    row = {"context": [{"path": "doc.txt"}], "query": "q", "candidates": [{"text": "a"}]}
    (tmp_path / "set.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (sample,) = calibration_samples(tmp_path / "set.jsonl")
    assert sample.documents[0].text == "A document."


def test_a_set_is_read_as_the_data_is_with_blank_lines_and_a_mark_of_byte_order(tmp_path: Path) -> None:
    row = {"id": "a", "context": "c", "query": "q", "candidates": [{"text": "a"}]}
    (tmp_path / "set.jsonl").write_text(f"{json.dumps(row)}\r\n\r\n{json.dumps({**row, 'id': 'b'})}", "utf-8-sig")
    assert [sample.id for sample in calibration_samples(tmp_path / "set.jsonl")] == ["a", "b"]


def test_a_bound_beyond_the_scale_is_reported_with_its_place(project: Project) -> None:
    pipeline = calibrate(project, calibration={"path": "calibration.jsonl", "max_drift": 11})
    with pytest.raises(ConfigError, match=r"calibration\.max_drift"):
        parse_pipeline(pipeline, load_catalog(), folder=project.folder)
