"""Components that block the event loop, in runs as real processes: named, and ended by an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from project import Project

PLUGIN = """
    import asyncio, re, sys, time
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec
    from lrf.settings import Settings
    from lrf.types import Judgement

    class Blocking:
        def __init__(self, settings): ...

        async def score(self, sample, candidate, ctx):
            if sample.id == "sample-2":
                {block}
            return Judgement(5.0)

    @hookimpl
    def lrf_register_dimensions():
        return [ComponentSpec("blocking", "blocker:Blocking", "lrf.settings:Settings", "Blocks.")]
"""
BLOCKS = {
    "sleep": "time.sleep(600)",
    "loop": "while True: pass",
    "expression": "print('begun', file=sys.stderr, flush=True); re.match('(a+)+$', 'a' * 60 + 'b')",
    "later": "print('begun', file=sys.stderr, flush=True); await asyncio.sleep(0.5); time.sleep(600)",
    "swallows": """while True:
                    try:
                        time.sleep(600)
                    except Exception:
                        pass""",
}
pytestmark = pytest.mark.timeout(60)
FAST = "import sys; from lrf.stages import loop_guard; loop_guard.BLOCKED_S = 1.0; "
COMMAND = FAST + "from lrf.cli.main import main; main(sys.argv[1:])"


@pytest.fixture
def blocking(distribute: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a distribution with a dimension that blocks so, for this process and its children."""

    def install(block: str) -> None:
        modules = {"blocker": PLUGIN.replace("{block}", BLOCKS[block])}
        site = distribute("acme-blocks", entry_points={"blocks": "blocker"}, modules=modules)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))

    return install


@contextmanager
def running(project: Project, **changes: Any) -> Iterator[subprocess.Popen[str]]:
    pipeline = project.pipeline(dimensions=["helpfulness", "blocking"], **changes)
    arguments = ["run", str(project.write(pipeline)), "--runs", str(project.runs)]
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The next line of standard error with these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"the process ended without: {words}")


@pytest.mark.parametrize("block", [pytest.param("sleep", marks=pytest.mark.slow), "loop"])
def test_a_dimension_that_blocks_the_event_loop_is_named_and_ended_by_one_interrupt(
    project: Project, judge_server: JudgeServer, blocking: Any, block: str
) -> None:
    blocking(block)
    with running(project) as process:
        said = line_with(process, "has held the event loop for")
        assert said.startswith("dimensions.blocking (Blocking of acme-blocks 1.0) on sample sample-2 (")
        assert "blocker.py:" in said
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    scored = {row["sample_id"] for row in project.lines("rewards.jsonl")}
    assert scored <= {"sample-0", "sample-1"}
    assert "the same command continues from there" in rest


@pytest.mark.parametrize("block", ["expression", pytest.param("later", marks=pytest.mark.slow)])
def test_what_lets_no_thread_run_or_blocks_after_the_interrupt_is_ended_and_named_too(
    project: Project, judge_server: JudgeServer, blocking: Any, block: str
) -> None:
    blocking(block)
    with running(project) as process:
        line_with(process, "begun")
        if block == "expression":
            time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        line_with(process, "SIGINT: dimensions.blocking (Blocking of acme-blocks 1.0) on sample sample-2 (")
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 130, rest


def test_a_second_interrupt_ends_a_dimension_that_can_not_be_ended(
    project: Project, judge_server: JudgeServer, blocking: Any
) -> None:
    blocking("swallows")
    with running(project) as process:
        line_with(process, "has held the event loop for")
        process.send_signal(signal.SIGINT)
        line_with(process, "holds the event loop; once more to end at once")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130


@pytest.mark.slow
def test_a_stage_in_a_process_of_its_own_names_what_blocks_it_and_ends_too(
    project: Project, judge_server: JudgeServer, blocking: Any, tmp_path: Path
) -> None:
    blocking("loop")
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nshift 2\nexec {sys.executable} -c '{CHILD}' \"$@\"\n")
    interpreter.chmod(0o755)
    with running(project, python={"score": str(interpreter)}) as process:
        line_with(process, "dimensions.blocking (Blocking of acme-blocks 1.0) on sample sample-2 (")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 130, rest


CHILD = FAST + 'import runpy; runpy.run_module("lrf.stages.child_process", run_name="__main__", alter_sys=True)'
