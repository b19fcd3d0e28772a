"""The event loop and the interpreter while calls are in flight."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from lrf.engine import event_loop as interpreter
from lrf.engine.event_loop import FEW, PYTHONS_OWN, SWITCH_S, tuned
from lrf.engine.faults import faults_of
from lrf.errors import StageError


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """As in a program that has frozen nothing; the test suite itself has frozen its modules."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("nothing_frozen")
def test_what_was_set_for_a_run_is_as_before_after_it() -> None:
    before, frozen = (gc.get_threshold(), sys.getswitchinterval()), gc.get_freeze_count()
    assert frozen < PYTHONS_OWN
    with contextlib.suppress(ValueError), tuned():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        assert gc.get_freeze_count() > PYTHONS_OWN
        raise ValueError("the run failed")
    assert (gc.get_threshold(), sys.getswitchinterval()) == before
    assert gc.get_freeze_count() <= frozen


def test_what_the_program_itself_has_frozen_stays_so() -> None:
    gc.freeze()
    with tuned():
        pass
    assert gc.get_freeze_count() > PYTHONS_OWN


@pytest.mark.skipif(sys.platform == "win32", reason="its event loop has no selector")
def test_many_replies_at_once_are_read_a_few_in_a_turn_and_none_is_forgotten() -> None:
    pairs = [socket.socketpair() for _ in range(5 * FEW)]
    turns: list[list[int]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number, (reader, writer) in enumerate(pairs):
            reader.setblocking(False)
            loop.add_reader(reader, lambda number=number, reader=reader: turns[-1].append(number) or reader.recv(1))
            writer.send(b"x")
        while sum(map(len, turns)) < len(pairs):
            turns.append([])
            await asyncio.sleep(0)
        for reader, _ in pairs:
            loop.remove_reader(reader)

    interpreter.run(asyncio.wait_for(main(), 30))
    for pair in pairs:
        for end in pair:
            end.close()
    assert max(map(len, turns)) <= FEW
    assert sorted(number for turn in turns for number in turn) == list(range(len(pairs)))


@pytest.mark.skipif(sys.platform == "win32", reason="its event loop has no selector")
def test_files_that_always_have_more_to_read_keep_no_other_from_its_turn() -> None:
    pairs = [socket.socketpair() for _ in range(2 * FEW + 1)]
    read = [0] * len(pairs)

    def take(number: int) -> None:
        reader, writer = pairs[number]
        read[number] += len(reader.recv(1))
        writer.send(b"x")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number, (reader, writer) in enumerate(pairs):
            reader.setblocking(False)
            writer.send(b"x")
            loop.add_reader(reader, take, number)
        for _ in range(100 * len(pairs) // FEW):
            await asyncio.sleep(0)
        for reader, _ in pairs:
            loop.remove_reader(reader)

    interpreter.run(asyncio.wait_for(main(), 30))
    for pair in pairs:
        for end in pair:
            end.close()
    assert min(read) > 50


def test_a_task_that_ends_the_process_is_said_to_have_done_so() -> None:
    async def leaves() -> None:
        sys.exit("good-bye")

    async def main() -> None:
        await asyncio.gather(leaves(), asyncio.sleep(60))

    with pytest.raises(StageError, match=r"test_event_loop\.py:\d+ ended the run by sys.exit\('good-bye'\)"):
        interpreter.run(main())


def test_a_component_that_stops_the_event_loop_gets_the_error_itself_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="a component may not stop the event loop"):
            loop.stop()
        loop.call_soon(loop.stop)
        await asyncio.sleep(0.01)
        return "went on"

    assert interpreter.run(main()) == "went on"
    assert "a component asked the event loop to stop" in caplog.text


def test_no_component_lowers_the_recursion_limit_and_any_may_raise_it() -> None:
    before = sys.getrecursionlimit()

    async def main() -> None:
        with pytest.raises(ValueError, match=f"may not lower Python's recursion limit to 60; it is {before}"):
            sys.setrecursionlimit(60)
        sys.setrecursionlimit(before + 100)
        sys.setrecursionlimit(before)

    interpreter.run(main())
    assert sys.setrecursionlimit.__module__ == "sys"


def test_a_component_that_cancels_the_run_itself_is_said_to_have_done_so() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in asyncio.all_tasks()])
        await asyncio.sleep(60)

    with pytest.raises(StageError, match="a component cancelled the run's own task; what was committed is kept"):
        interpreter.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system can't fork")
@pytest.mark.parametrize("named", [True, False])
def test_a_child_that_a_component_forks_and_lets_return_ends_and_the_run_goes_on(
    named: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> int:
        with faults_of("judges.main", object(), "judge_error") if named else contextlib.nullcontext():
            child = os.fork()
        await asyncio.sleep(0)  # another turn of the loop
        return child

    child = interpreter.run(main())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    whose = "judges.main (object of builtins)" if named else "a component"
    assert f"lrf: {whose} forked the run's process and let the child return" in capfd.readouterr().err
