"""Stages in a process of their own, with real processes."""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.api import load
from lrf.errors import ConfigError, RunInterruptedError
from lrf.plugin.catalog import load_catalog
from lrf.stages.context import StageContext
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from project import Project


def run(project: Project, python: str = sys.executable, **changes: Any) -> RunSummary:
    pipeline = project.pipeline(python={"score": python}, **changes)
    return lrf.run(pipeline, runs=project.runs)


def interpreter(folder: Path, code: str) -> str:
    """A program that is called like an interpreter and does something else."""
    program = folder / "python-of-its-own"
    program.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_stages_in_processes_of_their_own_leave_identical_files(project: Project, judge_server: JudgeServer) -> None:
    assert lrf.run(project.pipeline(), runs=project.runs).exit_code == 0
    here = project.files()
    project.runs = project.folder / "children"
    python = {"score": sys.executable, "pairs": sys.executable}
    told: list[Any] = []
    summary = lrf.run(project.pipeline(python=python), runs=project.runs, report=told.append)
    assert summary.exit_code == 0, summary.message
    assert project.files() == here
    assert summary.stages["score"]["calls"] == 30
    assert any(p["stage"] == "score" and p.get("samples") == 3 for p in told)
    for stage in python:
        assert (project.run_dir / f"{stage}.stderr.log").read_bytes() == b""
    calls = judge_server.books.calls
    assert lrf.run(project.pipeline(python=python), runs=project.runs).exit_code == 0
    assert judge_server.books.calls == calls


def test_what_a_stage_raises_in_its_process_ends_the_run(project: Project, judge_server: JudgeServer) -> None:
    judge_server.fault("401", times=None)
    summary = run(project)
    assert summary.exit_code == 2
    assert "status 401" in summary.message


def test_a_budget_that_is_spent_in_a_process_of_its_own_is_exit_4(project: Project, judge_server: JudgeServer) -> None:
    summary = run(project, budget={"calls": 7})
    assert (summary.exit_code, summary.status) == (4, "stopped")
    assert judge_server.books.calls == 7


def test_a_process_that_dies_is_reported_with_its_last_lines(project: Project) -> None:
    python = interpreter(
        project.folder,
        """
        import os, signal, sys
        for i in range(50):
            print("line", i, file=sys.stderr)
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
        """,
    )
    summary = run(project, python)
    assert summary.exit_code == 1
    assert "stage score was ended by signal 11; its last lines:" in summary.message
    assert "line 49" in summary.message
    assert "line 10" not in summary.message


def test_a_process_that_ends_without_a_word_is_reported_with_its_exit_code(project: Project) -> None:
    summary = run(project, interpreter(project.folder, "raise SystemExit(3)"))
    assert "stage score ended with exit code 3" in summary.message
    assert "it printed nothing" in summary.message


async def test_a_process_that_is_stopped_before_it_can_say_anything_leaves_an_interrupted_run(project: Project) -> None:
    # as one that loses the interrupt while it starts
    python = interpreter(
        project.folder, "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: None)\ntime.sleep(500)"
    )
    pipeline = load(project.pipeline(python={"score": python}))
    contexts: list[StageContext] = []

    def report(progress: Mapping[str, Any]) -> None:
        if (progress["stage"], progress.get("event")) == ("score", "begins"):  # the process isn't started yet
            contexts[0].drain(RunInterruptedError("stopped by the test"))

    summary = await run_pipeline(pipeline, load_catalog(), project.runs, report=report, started=contexts.append)
    assert (summary.status, summary.message) == ("interrupted", "stopped by the test")


def test_one_endless_line_of_a_process_is_no_trouble(project: Project) -> None:
    code = """
    import sys
    sys.stderr.write("progress 1%\\r" * 1_000_000)
    sys.stderr.write("\\nthe end\\n")
    raise SystemExit(3)
    """
    summary = run(project, interpreter(project.folder, code))
    assert "stage score ended with exit code 3" in summary.message
    assert "the end" in summary.message


def test_an_interpreter_that_is_no_program_is_a_mistake_of_the_pipeline(project: Project) -> None:
    with pytest.raises(ConfigError, match="no program"):
        run(project, "no-such-python")


def test_a_program_that_can_not_be_started_is_reported(project: Project) -> None:
    program = project.folder / "broken"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    summary = run(project, str(program))
    assert summary.exit_code == 1
    assert "the interpreter of stage score can't be started" in summary.message


def test_what_a_library_prints_does_not_break_the_channel(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    site = project.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import atexit, sys\nprint('hello from a library')\natexit.register(print, '{\"counts\": \"forged\"}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
    summary = run(project)
    assert summary.exit_code == 0, summary.message
    assert summary.stages["score"]["candidates"] == 15
