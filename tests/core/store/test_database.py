"""The journal's thread: whatever happens in it, nobody waits for ever, and what is committed is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrf.errors import RunError
from lrf.store import database as module
from lrf.store.database import FEW, Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "j")
    yield database
    database.close()


def insert(name: bytes, text: str = "text") -> module.Job:
    return lambda connection: connection.execute("INSERT INTO segments VALUES (?, ?)", (name, text))


async def within(seconds: float, *work: object) -> list[object]:
    return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), seconds)  # type: ignore[call-overload, no-any-return]


async def test_no_cursor_leaves_the_thread(database: Database) -> None:
    """Freed in another thread, it would reset its statement, which the journal's thread may be executing again."""
    assert await database.write(insert(b"one")) is None
    assert await database.read(lambda connection: connection.execute("SELECT 1")) is None


class FailingConnection:
    """A connection that raises an error for one statement."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: BaseException) -> None:
        self._connection, self._statement, self._error = connection, statement, error

    def execute(self, statement: str, *values: object) -> object:
        if statement == self._statement:
            raise self._error
        return self._connection.execute(statement, *values)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


ERRORS = [MemoryError(), OSError(5, "Input/output error"), RuntimeError("planted"), SystemExit(1), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"])
async def test_whatever_is_raised_in_the_thread_every_waiter_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, error: BaseException
) -> None:
    opened = module.open_connection
    database = Database(tmp_path / "j")
    await database.write(insert(b"before"))
    await asyncio.to_thread(database.close)
    monkeypatch.setattr(module, "open_connection", lambda path: FailingConnection(opened(path), statement, error))
    database = Database(tmp_path / "j")

    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("planted")

    job = broken if statement == "ROLLBACK" else insert(b"new")
    ended = await within(10, *(database.write(job) for _ in range(3)), asyncio.wrap_future(database.write_later(job)))
    assert all(isinstance(one, RunError) and "run the same command again" in str(one) for one in ended), ended
    with contextlib.suppress(RunError):
        await within(10, database.read(lambda c: None))
    await asyncio.to_thread(database.close)
    with contextlib.closing(sqlite3.connect(tmp_path / "j")) as connection:
        assert (b"before",) in connection.execute("SELECT hash FROM segments").fetchall()


async def test_a_thread_that_failed_says_so_to_those_that_come_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_transact", failing)
    (first,) = await within(10, database.write(insert(b"a")))
    assert "the journal's thread has failed: MemoryError" in str(first)
    with pytest.raises(RunError, match="thread has failed"):
        await database.read(lambda _: None)
    with pytest.raises(RunError, match="thread has failed"):
        database.do(lambda _: None)


async def test_a_waiter_that_can_not_be_notified_for_want_of_memory_is_notified_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, failures = module._tell_waiters, [MemoryError()] * 3

    def telling(outcomes: list[module.Outcome]) -> None:
        if failures:
            raise failures.pop()
        tell(outcomes)

    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "_tell_waiters", telling)
    (ended,) = await within(10, database.write(insert(b"a")))
    assert isinstance(ended, RunError)


def test_a_database_without_a_thread_is_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    with pytest.raises(RunError, match="thread can't be started"):
        Database(tmp_path / "j")


async def test_a_commit_is_synced_to_the_disk(database: Database) -> None:
    assert await database.read(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL


FORKED = """
import asyncio, os, signal, sys
from pathlib import Path
from lrf.errors import RunError
from lrf.store.database import Database

database = Database(Path(sys.argv[1]))
if not os.fork():
    signal.alarm(20)
    for use in (lambda: database.do(lambda _: None).result(), lambda: asyncio.run(database.read(lambda _: None))):
        try:
            use()
        except RunError as error:
            print(error, flush=True)
    database.close()
    os._exit(0)
_, status = os.wait()
database.do(lambda c: c.execute("SELECT 1").fetchone()).result()
database.close()
print("status", status)
"""


def test_a_database_that_is_used_after_a_fork_says_what_to_do_and_its_own_process_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path / "j")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("was forked from it: open it in the new process, or use one process") == 2, done.stderr
    assert done.stdout.endswith("status 0\n")
    assert not (tmp_path / "j-wal").exists()


async def test_the_callers_of_a_large_group_do_not_all_continue_in_one_turn_of_the_loop() -> None:
    database, turn, turns = Database(), 0, Counter[int]()

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def write() -> None:
        await database.write(lambda connection: connection.execute("SELECT 1"))
        turns[turn] += 1

    counting = asyncio.create_task(count())
    await asyncio.gather(*(write() for _ in range(100)))
    counting.cancel()
    database.close()
    assert turns.total() == 100
    assert max(turns.values()) <= FEW


def test_a_folder_in_place_of_the_file_is_said_to_be_no_journal(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can't be used as a journal: unable to open database file; move it away"):
        Database(tmp_path)
