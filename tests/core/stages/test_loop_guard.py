"""Components that block the event loop of a run: named, and ended by an interrupt."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.plugin.catalog import load_catalog
from lrf.stages import loop_guard
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
def blocking(distribute: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs a distribution with a dimension that blocks so, for this process and its children."""

    def install(block: str) -> None:
        modules = {"blocker": PLUGIN.replace("{block}", BLOCKS[block])}
        site = distribute("acme-blocks", entry_points={"blocks": "blocker"}, modules=modules)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
        load_catalog.cache_clear()

    yield install
    load_catalog.cache_clear()


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


class Ear(io.StringIO):
    """Standard error, and what is done when certain words are said on it for the first time."""

    def __init__(self, words: str, then: Callable[[], object]) -> None:
        super().__init__()
        self._words, self._then = words, then

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._words and self._words in text:
            self._words = ""
            self._then()
        return written


def interrupted(project: Project, monkeypatch: pytest.MonkeyPatch, words: str, then: Callable[[], object]) -> str:
    """What ``lrf run`` says on standard error in this process, where ``then`` is done when the words are said."""
    monkeypatch.setattr(loop_guard, "BLOCKED_S", 0.5)
    monkeypatch.setattr(loop_guard, "_LOOK_S", 0.05)
    pipeline = project.pipeline(dimensions=["helpfulness", "blocking"])
    ear = Ear(words, then)
    with redirect_stderr(ear):
        assert invoke(["run", str(project.write(pipeline)), "--runs", str(project.runs)]) == 130
    return ear.getvalue()


@pytest.mark.parametrize("block", ["sleep", "loop"])
def test_a_dimension_that_blocks_the_event_loop_is_named_and_ended_by_one_interrupt(
    project: Project, judge_server: JudgeServer, blocking: Any, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocking(block)
    words = "dimensions.blocking (Blocking of acme-blocks 1.0) on sample sample-2 ("
    said = interrupted(project, monkeypatch, words, lambda: os.kill(os.getpid(), signal.SIGINT))
    line = next(line for line in said.splitlines() if words in line)
    assert "blocker.py:" in line
    assert "has held the event loop for" in line
    assert "Traceback" not in said
    assert "and was ended" in said
    scored = {row["sample_id"] for row in project.lines("rewards.jsonl")}
    assert scored <= {"sample-0", "sample-1"}


@pytest.mark.parametrize(("block", "after_s"), [("expression", 0.8), ("later", 0)])
def test_what_lets_no_thread_run_or_blocks_after_the_interrupt_is_ended_and_named_too(
    project: Project, judge_server: JudgeServer, blocking: Any, block: str, after_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    blocking(block)
    interrupt = ["sh", "-c", f"sleep {after_s}; kill -INT {os.getpid()}"]  # no thread of this process could
    processes: list[subprocess.Popen[bytes]] = []
    said = interrupted(project, monkeypatch, "begun", lambda: processes.append(subprocess.Popen(interrupt)))
    assert "SIGINT: dimensions.blocking (Blocking of acme-blocks 1.0) on sample sample-2 (" in said
    assert processes[0].wait() == 0


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
