"""`lrf run`: what it says before it pays, of stages that are finished, and at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.cli import outlook as module
from lrf.cli.main import invoke
from lrf.cli.summary import show
from lrf.stages.stage import StageResult
from lrf.stages.summary import RunSummary
from project import Project


@pytest.fixture
def run(project: Project, capfd: pytest.CaptureFixture[str]) -> Any:
    """``run(expected_code, **changes)`` runs the project's pipeline by the command; its (progress, results) lines."""

    def run_(code: int = 0, **changes: Any) -> tuple[list[str], list[str]]:
        assert invoke(["run", str(project.write(project.pipeline(**changes))), "--runs", str(project.runs)]) == code
        shown = capfd.readouterr()
        return shown.err.splitlines(), shown.out.splitlines()

    return run_


def cell(results: list[str], name: str) -> str:
    """The value beside a name in the final table."""
    return next(line.removeprefix(name).strip() for line in results if line.startswith(f"{name} "))


def test_a_run_says_first_what_is_left_to_pay_and_a_finished_one_that_its_stages_are_skipped(run: Any) -> None:
    progress, results = run()
    assert progress.index("30 calls are expected; 30 are left to pay") < progress.index("score: begins")
    assert cell(results, "judge calls") == "30 in this run"
    progress, results = run()
    assert progress == [
        "data: begins",
        "data: 3 samples",
        "score: finished by an earlier run, skipped",
        "pairs: finished by an earlier run, skipped",
    ]
    assert cell(results, "judge calls") == "0 in this run; 30 over all sittings"
    assert cell(results, "tokens").startswith("0 in this run; ")
    assert cell(results, "skipped") == "score, pairs: finished by an earlier run"


def test_changed_settings_come_first_and_then_what_they_cost(run: Any) -> None:
    run(dimensions=["helpfulness"])
    progress, results = run(dimensions=["helpfulness", "logicality"], prices=None)
    assert progress[0].startswith("changed since the last run: dimensions")
    assert "30 calls are expected, 15 of them paid already; 15 are left to pay" in progress
    assert cell(results, "judge calls") == "15 in this run (15 replies reused); 30 over all sittings"


@pytest.mark.parametrize("where", ["here", "in a process of the stage"])
def test_what_cannot_be_estimated_ends_no_run(run: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("no plan")

    if where == "here":
        monkeypatch.setattr(module, "estimate", broken)
        progress, _ = run()
        assert "what is left to pay can't be estimated: no plan" in progress
    else:
        progress, _ = run(python={"score": sys.executable})
        assert "30 calls are expected; 30 are left to pay" in progress
        assert "score: begins" in progress


def test_an_estimate_that_takes_long_is_given_up(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0.05)
    monkeypatch.setattr(module, "estimate", lambda *_: asyncio.sleep(60))
    progress, _ = run()
    assert "what is left to pay wasn't estimated within 0 s" in progress


def test_waits_and_budget_are_reported(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lrf.engine.retries.backoff_s", lambda attempts: 1.0
    )  # longer than the time from one report to the next
    judge_server.fault("503", times=3)
    reports: list[Any] = []
    assert lrf.run(project.pipeline(budget={"calls": 100}), runs=project.runs, report=reports.append).exit_code == 0
    waits = [wait for report in reports for wait in report.get("waits", ())]
    assert {wait["name"] for wait in waits} == {"judges.main"}
    assert "status 503: no" in waits[0]["status"]
    last = [report for report in reports if report["stage"] == "score"][-1]
    assert last["budget"] == ({"unit": "calls", "used": 30, "limit": 100},)
    assert last["retried"] == 3


def test_the_figures_of_an_unknown_stage_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Lengths(StageResult):
        longest: int

    show(RunSummary(tmp_path, results={"lengths": Lengths(longest=1234).as_skipped()}))
    results = capsys.readouterr().out.splitlines()
    assert cell(results, "lengths") == "longest 1,234"
    assert cell(results, "skipped") == "lengths: finished by an earlier run"


def test_a_hangup_that_is_ignored_stops_no_run(project: Project, judge_server: JudgeServer) -> None:
    judge_server.delay_s = 0.05
    command = [sys.executable, "-m", "lrf", "run", str(project.write(project.pipeline())), "--runs", str(project.runs)]
    with subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        assert judge_server.wait_for_calls(5)
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(timeout=60) == 0
