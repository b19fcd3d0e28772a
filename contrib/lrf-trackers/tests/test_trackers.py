"""The trackers' own stores after real runs: nothing is imitated but the judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lrf_trackers.totals import Totals

import lrf
from lrf.testing import ScriptedJudge, check_plugin

ROWS = [
    {"id": f"s{i}", "context": "Seven to two.", "query": f"How, {i}?", "candidates": ["Seven to two.", "Nobody knows."]}
    for i in range(2)
]


def rate(request: lrf.Request) -> str:
    text = "".join(segment.text for segment in request.prompt)
    return "I'd rather not." if "Nobody knows" in text else "They voted so. [[8]]"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., str]:
    """Runs a pipeline with these observers; returns what came on standard output."""
    monkeypatch.setattr("lrf_openai.judge.OpenAIJudge", lambda _: ScriptedJudge(rate))

    def run(*observers: dict[str, Any], **changes: Any) -> str:
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        judge = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
        pipeline = {
            "name": "tracked",
            "data": {"type": "jsonl", "path": str(tmp_path / "data.jsonl")},
            "judges": {"main": judge},
            "dimensions": ["helpfulness"],
            "max_unscored": 1,
            "observers": list(observers),
            **changes,
        }
        assert lrf.run(pipeline, runs=tmp_path / "runs").exit_code == 0
        return str(capsys.readouterr().out)

    return run


def check(figures: Any) -> None:
    """The figures of the last point: half of the answers have a reward, and the others are no zeros."""
    assert figures["samples"] == 2
    assert figures["candidates/unscored"] == 2
    assert figures["reward/mean"] == figures["rating/helpfulness"] == 8.0
    assert figures["calls"] == 12
    assert figures["seconds/call"] >= 0


def test_mlflow_has_the_run_and_a_run_that_is_resumed_is_the_same_one(run: Callable[..., str], tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri).search_experiments()  # makes the database, which takes a while
    observer = {"type": "mlflow", "tracking_uri": uri, "experiment": "mine"}
    run(observer)
    run(observer, seed=1)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "tracked"
    points = client.get_metric_history(found.info.run_id, "reward/mean")
    assert {point.value for point in points} == {8.0}
    figures = {name: client.get_metric_history(found.info.run_id, name)[0] for name in found.data.metrics}
    assert figures["samples"].step in (1, 2)


def test_trackio_has_the_run_and_says_nothing_on_standard_output(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trackio.utils
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "trackio")
    assert run({"type": "trackio", "project": "mine"}) == ""
    (name,) = SQLiteStorage.get_runs("mine")
    assert name.startswith("tracked-")
    check(SQLiteStorage.get_logs("mine", name)[-1])


def test_wandb_keeps_the_run_in_its_folder_without_a_network(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run({"type": "wandb", "project": "mine", "mode": "offline"}) == ""
    (file,) = (tmp_path / "runs" / "tracked").rglob("*.wandb")
    content = file.read_bytes()
    for word in (b"reward/mean", b"candidates/unscored", b"tokens/prompt", b"mine"):
        assert word in content


def test_a_tracker_that_fails_is_detached_and_the_run_ends_well(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run({"type": "mlflow", "tracking_uri": "http://127.0.0.1:9"}, {"type": "trackio", "space_id": "not a space"})
    log = (tmp_path / "runs" / "tracked" / "log.jsonl").read_text()
    detached = {json.loads(line)["plugin"] for line in log.splitlines() if "observer detached" in line}
    assert detached == {"observers.mlflow", "observers.trackio"}


def test_means_are_of_what_is_there_and_money_is_kept_by_currency() -> None:
    totals = Totals()
    assert totals.figures() == {"samples": 0}
    totals.add_call(1.0, None, lrf.Usage(prompt_tokens=10, cached_tokens=4), 0.5, "EUR")
    totals.add_call(3.0, "timeout", lrf.Usage(calls=0), None, "EUR")
    totals.add_rewards([lrf.Reward("s", "a", 4.0, {"h": 4.0, "c": None}), lrf.Reward("s", "b", None, {"h": None})])
    figures = totals.figures()
    assert (figures["cost/EUR"], figures["seconds/call"], figures["calls/failed"]) == (0.5, 2.0, 1)
    assert (figures["reward/mean"], figures["rating/h"], figures["candidates/unscored"]) == (4.0, 4.0, 1)
    assert "rating/c" not in figures


def test_the_plugin_registers_what_can_be_imported() -> None:
    check_plugin("lrf_trackers.plugin")
