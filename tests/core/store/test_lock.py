"""One process a run directory, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lrf.errors import RunError
from lrf.store.lock import RunLock

HOLD = """
    import sys, time
    from pathlib import Path
    from lrf.store.lock import RunLock
    lock = RunLock(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""
PASS_ON = """
    import subprocess, sys, time
    from pathlib import Path
    from lrf.store.lock import RunLock
    lock = RunLock(Path(sys.argv[1]))
    heir = [sys.executable, "-c", "import sys; print('held', flush=True); sys.stdin.read()"]
    child = subprocess.Popen(heir, pass_fds=(lock.fileno(),))
    print(child.pid, flush=True)
    child.wait()
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as holder:
        assert line(holder) == "held"
        with pytest.raises(RunError, match=f"in use by process {holder.pid} on .*--runs"):
            RunLock(tmp_path)
        holder.kill()


def test_a_killed_process_releases_the_lock(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as holder:
        assert line(holder) == "held"
        holder.send_signal(signal.SIGKILL)
    with RunLock(tmp_path) as lock:
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
        assert lock.fileno() >= 0


def test_a_child_that_inherited_it_keeps_it_after_its_parents_death(tmp_path: Path) -> None:
    with start(PASS_ON, tmp_path) as parent:
        told = {line(parent), line(parent)}
        child = next(int(word) for word in told if word != "held")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with pytest.raises(RunError, match="in use"):
            RunLock(tmp_path)
        os.kill(child, signal.SIGKILL)
        assert parent.stdout is not None
        parent.stdout.read()  # ends when the child is gone
    RunLock(tmp_path).close()


def test_a_child_that_did_not_inherit_it_has_no_part_in_it(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        lock.close()
        RunLock(tmp_path).close()
        child.kill()


def test_it_can_be_taken_again_after_it_was_closed(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(RunError):
        RunLock(tmp_path)
    RunLock(tmp_path).close()


def test_a_directory_that_can_not_be_locked_is_reported(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(RunError, match="lock"):
        RunLock(tmp_path)
