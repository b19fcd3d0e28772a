"""Trackers of experiments: what they get, and that none of them loses a training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_sft.settings import SFTSettings
from lrf_sft.trainer import SFT
from lrf_training import trackers
from waiting import until

Make = Callable[..., TrainingJob]
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training's variables end with the test."""
    names = ("DIR", "PROJECT", "RUN_ID", "RESUME", "CONSOLE", "SILENT", "DISABLE_GIT", "DISABLE_CODE", "API_KEY")
    for name in ("TENSORBOARD_LOGGING_DIR", *(f"WANDB_{name}" for name in names)):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def sft(folder: Path, **settings: Any) -> SFT:
    rows = [{"prompt": f"question {i} " * 3, "completion": f"answer {i} " * (i % 3 + 1)} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "preflight": False, "max_steps": 3}
    made |= {"sources": [{"path": folder / "rows.jsonl"}], "global_batch": 2}
    return SFT(SFTSettings.model_validate(made | settings))


def test_a_tracker_that_is_not_installed_stops_the_training_before_it_begins(job: Make, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"train.report_to needs the package swanlab: pip install swanlab"):
        sft(tmp_path, report_to=["swanlab"]).train(job([]))


def test_a_tracker_that_fails_is_left_out_with_one_sentence(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    reports: list[Any] = []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "file"))
    result = sft(tmp_path, report_to=["tensorboard"]).train(job([], report=reports.append))
    assert result.metrics["steps"] == 3
    (note,) = [report["note"] for report in reports if "tracker" in str(report.get("note"))]
    assert note.startswith("the tracker tensorboard is left out, and the training goes on: ")


def test_an_error_s_text_is_without_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: True)
    settings = SFTSettings.model_validate({"own_weight": 1, "report_to": ["wandb"]})
    arguments = trackers.tracker_arguments(settings, TrainingJob(tmp_path, tmp_path / "policy" / "sft", None, 7, ""))
    reports: list[Any] = []

    class Tracker:
        calls = 0

        def on_log(self) -> None:
            self.calls += 1
            raise ConnectionError(f"the server refuses {KEY}\nand more")

    tracker = Tracker()
    trackers._guard(tracker, "wandb", reports.append)
    for _ in range(2):
        tracker.on_log()
    assert tracker.calls == 1
    assert [report["note"].partition("goes on: ")[2] for report in reports] == ["the server refuses ${WANDB_API_KEY}"]
    again = trackers.tracker_arguments(settings, TrainingJob(tmp_path, tmp_path / "policy" / "sft", None, 7, ""))
    assert again == arguments  # a resumed training continues its run
    other = trackers.tracker_arguments(settings, TrainingJob(tmp_path, tmp_path / "other", None, 7, ""))
    assert other["run_name"] != arguments["run_name"]
    assert trackers.os.environ["WANDB_DIR"] == str(tmp_path / "other")


@pytest.mark.slow
def test_tensorboard_gets_each_step_s_figures(job: Make, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = job([])
    sft(tmp_path, report_to=["tensorboard"], evaluation={"held_out": 0.2, "every": 2}).train(done)
    events = EventAccumulator(str(done.output / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("eval/loss")] == [2, 3]  # transformers evaluates at the end, too


@pytest.mark.slow
def test_wandb_offline_gets_each_step_s_figures_and_no_key(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    done = job([])
    sft(tmp_path, report_to=["wandb"]).train(done)
    wandb.finish()
    (file,) = done.output.glob("wandb/offline-run-*/*.wandb")  # protobuf: a name, and its value as JSON

    def losses() -> list[float]:  # each is there twice
        return [float(v) for v in dict.fromkeys(re.findall(rb"train/loss\x82\x01.(\d+\.\d+)", file.read_bytes()))]

    until(lambda: len(losses()) == 3)  # W&B's own process writes it
    logged = [json.loads(line)["loss"] for line in (done.output / "training_log.jsonl").open()]
    assert losses() == pytest.approx(logged, rel=1e-3)
    assert not [path for path in done.output.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_wandb_without_a_key_is_left_out(job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb").teardown()  # it remembers the offline mode of an earlier run in this process
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    reports: list[Any] = []
    assert sft(tmp_path, report_to=["wandb"]).train(job([], report=reports.append)).metrics["steps"] == 3
    assert any("the tracker wandb is left out" in str(report.get("note")) for report in reports)


@pytest.mark.slow
def test_trackio_gets_each_step_s_figures(job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    import trackio.utils
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "trackio")
    sft(tmp_path, report_to=["trackio"]).train(job([]))
    (run,) = SQLiteStorage.get_runs(trackers.PROJECT)
    assert [
        log["train/global_step"] for log in SQLiteStorage.get_logs(trackers.PROJECT, run) if "train/loss" in log
    ] == [*(1, 2, 3)]
