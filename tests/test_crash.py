"""Runs that are killed or interrupted, as real processes: nothing that was paid for is lost or paid again."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import Books, JudgeServer
from project import Project

IN_FLIGHT = 2 * 8
"""Sent and not yet committed: a call in each slot, and as many replies again that are being written."""


def command(file: Path, project: Project) -> list[str]:
    return [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(project.runs)]


def finish(file: Path, project: Project) -> None:
    """Run the pipeline to its end, which must be a good one: in this process, which has imported everything."""
    summary = lrf.run(file, runs=project.runs)
    assert summary.exit_code == 0, summary


@contextmanager
def started(file: Path, project: Project) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(file, project), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


PRELOADED = """
import os, sys
from pathlib import Path
import lrf.cli.run, lrf.stages.runner
from lrf.plugin.catalog import load_catalog, load_target
from lrf.cli.main import main
from lrf.config import load_pipeline

pipeline = load_pipeline(Path(sys.argv[2]), load_catalog())
for blocks in (pipeline.judges, pipeline.embedders, pipeline.retrievers):
    for block in blocks.values():
        load_target(block.spec)
for _ in sys.stdin:
    process = os.fork()
    if not process:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        main(sys.argv[1:])
    print(process, flush=True)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    print("ended", flush=True)
    sys.stdin.readline()
    os.waitpid(process, 0)
"""


@contextmanager
def preloaded(file: Path, project: Project) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything; each line it reads makes it run the command in a child, as it is."""
    arguments = [sys.executable, "-c", PRELOADED, *command(file, project)[3:]]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def live_and_die(parent: subprocess.Popen[str], server: JudgeServer, calls: int) -> None:
    """One life of the command in a child of the preloaded process, killed after so many calls in all."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write("\n")
    parent.stdin.flush()
    child = int(parent.stdout.readline())
    ended = select.poll()
    ended.register(parent.stdout, select.POLLIN)
    while not server.wait_for_calls(calls, 0.1) and not ended.poll(0):
        pass
    os.kill(child, signal.SIGKILL)
    assert parent.stdout.readline() == "ended\n"
    parent.stdin.write("\n")  # only now is it reaped: until here its number could be nobody else's
    parent.stdin.flush()


def committed(project: Project, folder: Path) -> int:
    """Replies in the journal as it lies on the disk after a kill; looked at in a copy, so as not to mend it."""
    if not (project.run_dir / "journal.sqlite").exists():
        return 0
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in project.run_dir.glob("journal.sqlite*"):
        shutil.copy(file, copy / file.name)
    connection = sqlite3.connect(copy / "journal.sqlite")
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'replies'").fetchone()
        return connection.execute("SELECT count(*) FROM replies").fetchone()[0] if tables else 0
    finally:
        connection.close()


def undisturbed(project: Project, server: JudgeServer, file: Path) -> tuple[dict[str, bytes], Books]:
    """The files and the books of a run that nobody stops, in a folder of its own."""
    runs, project.runs = project.runs, project.folder / "undisturbed"
    finish(file, project)
    files, books = project.files(), server.books
    assert books.repeated == 0
    project.runs, server.books = runs, Books()
    return files, books


def settled(server: JudgeServer) -> int:
    """The number of requests that the server took in, when no more come."""
    before = -1
    while before != server.books.calls or server.books.in_flight:
        before = server.books.calls
        time.sleep(0.1)
    return before


def kill_at(moments: list[int | float], project: Project, server: JudgeServer, file: Path) -> None:
    """Kill the run at each moment (after so many calls in all, or seconds), then let it end, and look at everything.

    A moment of as many calls as there are is the time when the files are being made.
    """
    files, books = undisturbed(project, server, file)
    kept = paid = lost = 0
    with preloaded(file, project) as parent:
        for moment in moments:
            if isinstance(moment, float):  # while Python is starting
                with started(file, project) as process:
                    time.sleep(moment)
                    process.send_signal(signal.SIGKILL)
                    process.wait()
            else:
                live_and_die(parent, server, moment)
            paid = settled(server)
            now = committed(project, project.folder)
            assert now >= kept
            assert 0 <= paid - now - lost <= IN_FLIGHT  # what was in flight at this kill: sent, and not committed
            kept, lost = now, paid - now
    finish(file, project)
    assert project.files() == files
    assert set(server.books.asked) == set(books.asked)
    assert server.books.calls - paid == len(books.asked) - kept  # only what had not been committed
    assert server.books.repeated == lost  # calls that were asked again: exactly those in flight at the kills
    assert committed(project, project.folder) == len(books.asked)
    assert not list(project.run_dir.rglob("*.partial"))


def test_a_run_killed_three_times_leaves_the_files_of_an_undisturbed_one(
    project: Project, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.04
    rng = random.Random(20)
    early, late = rng.randrange(1, 40), rng.randrange(60, 110)
    kill_at([early, late, late + 20], project, judge_server, project.write(project.with_evidence()))


def test_a_run_that_is_killed_before_its_first_call_and_while_it_writes_its_files_ends_the_same(
    project: Project, judge_server: JudgeServer
) -> None:
    kill_at([rounded(random.Random(3)), 30], project, judge_server, project.write(project.pipeline()))


def rounded(rng: random.Random) -> float:
    """A moment while Python is still importing, or just after."""
    return round(rng.uniform(0.1, 1.2), 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_twenty_times_ends_the_same(project: Project, judge_server: JudgeServer, seed: int) -> None:
    project.write_data(6)
    judge_server.delay_s = 0.04
    rng = random.Random(seed)
    moments: list[int | float] = sorted(rng.sample(range(1, 300), 16))
    for _ in range(4):
        moments.insert(rng.randrange(len(moments)), rounded(rng))
    kill_at(moments, project, judge_server, project.write(project.with_evidence()))


def test_a_budget_holds_over_several_kills(project: Project, judge_server: JudgeServer) -> None:
    project.write_data(20)
    judge_server.delay_s = 0.04
    rng = random.Random(7)
    judge_server.fault("break", times=None, when=lambda _: rng.random() < 0.4)  # closed without a byte
    file = project.write(project.pipeline(budget={"calls": 60}))
    with preloaded(file, project) as parent:
        for moment in (7, 20, 31):
            live_and_die(parent, judge_server, moment)
    assert lrf.run(file, runs=project.runs).exit_code == 4
    assert 31 <= settled(judge_server) <= 60


def test_a_stages_process_dies_with_its_run_and_the_next_run_finishes(
    project: Project, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.05
    file = project.write(project.pipeline(python={"score": sys.executable}))
    kill_at([10], project, judge_server, file)


def interrupt(process: subprocess.Popen[str]) -> None:
    """What a terminal does on Ctrl-C: every process of the foreground group gets the signal."""
    os.killpg(process.pid, signal.SIGINT)


def one_sample_at_a_time(project: Project, **changes: Any) -> Path:
    pipeline = project.pipeline(**changes)
    pipeline["judges"]["main"]["max_concurrency"] = 4
    return project.write(pipeline)


def test_an_interrupt_lets_a_run_of_the_library_drain(project: Project, judge_server: JudgeServer) -> None:
    project.write_data(8)
    judge_server.delay_s = 0.4  # it must not have ended before the interrupt comes
    file = one_sample_at_a_time(project)
    code = (  # what a shell starts in the background ignores the interrupt, and so would this
        "import lrf, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"s = lrf.run({str(file)!r}, runs={str(project.runs)!r}); print(s.status, s.exit_code)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    judge_server.wait_for_calls(20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["interrupted", "130"]
    assert 0 < len(project.lines("rewards.jsonl")) < 40
    judge_server.delay_s = 0.01
    finish(file, project)
    assert len(project.lines("rewards.jsonl")) == 40


@pytest.mark.parametrize("own_process", [False, True])
def test_one_ctrl_c_finishes_the_calls_in_flight(
    project: Project, judge_server: JudgeServer, own_process: bool
) -> None:
    project.write_data(8)
    judge_server.delay_s = 0.05
    files, books = undisturbed(project, judge_server, one_sample_at_a_time(project))
    file = one_sample_at_a_time(project, python={"score": sys.executable} if own_process else {})
    judge_server.delay_s = 0.3  # it must not have ended before the interrupt comes
    with started(file, project) as process:
        judge_server.wait_for_calls(35)
        interrupt(process)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "SIGINT: finishing the calls in flight; once more to end at once" in err
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    assert judge_server.books.calls < len(books.asked)
    assert committed(project, project.folder) == judge_server.books.calls  # what was in flight is kept
    part = (project.run_dir / "rewards.jsonl").read_bytes()
    samples = [row["sample_id"] for row in project.lines("rewards.jsonl")]
    assert 0 < len(samples) < 40
    assert all(samples.count(name) == 5 for name in samples)
    whole = files["rewards.jsonl"].splitlines()
    assert [line for line in whole if line in set(part.splitlines())] == part.splitlines()
    assert json.loads((project.run_dir / "summary.json").read_text())["status"] == "interrupted"
    judge_server.delay_s = 0.0
    finish(file, project)
    assert project.files() == files
    assert judge_server.books.repeated == 0


def test_a_second_ctrl_c_ends_at_once_and_the_next_run_finishes(project: Project, judge_server: JudgeServer) -> None:
    file = one_sample_at_a_time(project)
    files, _ = undisturbed(project, judge_server, file)
    hangs: Callable[[str], bool] = lambda prompt: "104 euros" in prompt  # noqa: E731
    judge_server.fault("hang", times=None, when=hangs)
    with started(file, project) as process:
        judge_server.wait_for_calls(8)
        interrupt(process)
        assert process.stderr is not None
        while "once more to end at once" not in process.stderr.readline():
            assert process.poll() is None
        interrupt(process)
        assert process.wait(timeout=10) == 130
    judge_server.faults.clear()
    finish(file, project)
    assert project.files() == files


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_drains_like_ctrl_c(project: Project, judge_server: JudgeServer, number: signal.Signals) -> None:
    project.write_data(60)  # more than it finishes before the signal, however busy the machine is
    judge_server.delay_s = 0.05
    file = one_sample_at_a_time(project)
    with started(file, project) as process:
        judge_server.wait_for_calls(10)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{number.name}: finishing the calls in flight" in err
    assert committed(project, project.folder) == judge_server.books.calls


def test_a_second_process_is_refused_while_the_first_runs(project: Project, judge_server: JudgeServer) -> None:
    judge_server.fault("hang", times=None)
    file = project.write(project.pipeline())
    with started(file, project) as first:
        while not judge_server.books.in_flight:
            time.sleep(0.05)
        second = subprocess.run(command(file, project), capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert f"is in use by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr


def test_the_command_prints_a_table_and_ends_with_the_runs_code(project: Project, judge_server: JudgeServer) -> None:
    file = project.write(project.pipeline())
    out = subprocess.run(command(file, project), capture_output=True, text=True, timeout=60, check=True).stdout
    for words in ("samples", "candidates", "scored", "pairs", "judge calls", "tokens", "time", "rewards.jsonl"):
        assert words in out
    judge_server.fault("garbage", times=None)
    file = project.write(project.pipeline(name="bad"))
    done = subprocess.run(command(file, project), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "could not be read" in done.stderr


def test_a_full_disk_stops_the_run_and_with_room_again_it_finishes(project: Project, judge_server: JudgeServer) -> None:
    file = project.write(project.pipeline())
    files, books = undisturbed(project, judge_server, file)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(command(file, project), capture_output=True, text=True, timeout=60, preexec_fn=little_room)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the journal can't be written" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    kept = committed(project, project.folder)
    paid = judge_server.books.calls
    finish(file, project)
    assert project.files() == files
    assert judge_server.books.calls - paid == len(books.asked) - kept


PLANTED = """
import itertools, sys
from lrf.cli.main import main
from lrf.store import database

transact, groups = database._transact, itertools.count()

def failing(connection, tasks, *, writes):
    if writes and next(groups) >= 5:
        raise MemoryError
    transact(connection, tasks, writes=writes)

database._transact = failing
main(sys.argv[1:])
"""


def test_a_fault_in_the_journals_thread_ends_the_run_with_a_message_and_loses_nothing(
    project: Project, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.03
    file = one_sample_at_a_time(project)
    files, books = undisturbed(project, judge_server, file)
    arguments = [sys.executable, "-c", PLANTED, *command(file, project)[3:]]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the journal's thread has failed: MemoryError" in done.stderr
    assert "Traceback" not in done.stderr
    kept, paid = committed(project, project.folder), judge_server.books.calls
    assert 0 < kept < len(books.asked)
    finish(file, project)
    assert project.files() == files
    assert judge_server.books.calls - paid == len(books.asked) - kept


def test_a_changed_byte_in_a_stored_reply_is_reported_and_the_reply_asked_for_again(
    project: Project, judge_server: JudgeServer
) -> None:
    file = project.write(project.pipeline())
    files, books = undisturbed(project, judge_server, file)
    finish(file, project)
    with closing(sqlite3.connect(project.run_dir / "journal.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE replies SET text = text || '[[0]]' WHERE rowid = 2")
    (project.run_dir / "stages" / "score.json").unlink()
    done = subprocess.run(command(file, project), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "was changed after it was written" in done.stderr
    calls = judge_server.books.calls
    finish(file, project)
    assert project.files() == files
    assert judge_server.books.calls == calls + 1 - (calls - len(books.asked))
