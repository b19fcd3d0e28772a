"""The SQLite file behind the journal: its tables, and the one thread that owns the connection.

Callers hand the thread small jobs. Jobs that write are committed in groups: what has come in since the last group is
one transaction, so a busy run commits fifty times a second and an idle one at once. Jobs that read are done at once.
A caller continues only after its group is committed, and a commit returns only after the system has said that it is on
the disk: what is committed survives the end of the process and of the machine.

Whatever happens in the thread, every caller gets a result or an error: when the thread itself fails, all callers that
wait get that error, and so do those that come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lrf.errors import RunError
from lrf.store import forks
from lrf.store.checksums import add_checksum_function, text_of
from lrf.store.files import on_network_filesystem

T = TypeVar("T")

VERSION = 8
GROUP_S = 0.02
"""Seconds from one transaction that writes to the next: what comes in meanwhile is committed together."""
SYNCHRONOUS = "FULL"
"""The log is synced at each commit."""
RETRY_S = 0.1
"""Seconds until a waiter is told again that the thread has failed, where there was no memory to tell it."""

FEW = 8
"""Waiters that continue in one turn of their event loop: a whole group's would keep it from everything else."""

_TABLES = """
CREATE TABLE IF NOT EXISTS segments (hash BLOB PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS replies (
    key BLOB NOT NULL UNIQUE, judge TEXT NOT NULL, sample TEXT NOT NULL, dimension TEXT NOT NULL,
    kind TEXT NOT NULL, reply_mode TEXT NOT NULL, prompt BLOB NOT NULL, attempt INTEGER NOT NULL,
    repeat INTEGER NOT NULL, temperature REAL NOT NULL, max_tokens INTEGER NOT NULL, seed INTEGER,
    text TEXT NOT NULL, finish TEXT NOT NULL, probabilities TEXT, model TEXT, reasoning TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL, calls INTEGER NOT NULL, written_tokens INTEGER NOT NULL,
    most_prompt INTEGER NOT NULL, most_reply INTEGER NOT NULL,
    usage_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS unanswered (
    judge TEXT NOT NULL, sample TEXT NOT NULL, dimension TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL, written_tokens INTEGER NOT NULL, most_prompt INTEGER NOT NULL, most_reply INTEGER NOT NULL,
    usage_checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY, embedder TEXT NOT NULL, texts INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, batch INTEGER NOT NULL, vector BLOB NOT NULL,
    checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    stage TEXT NOT NULL, position INTEGER NOT NULL, sample TEXT NOT NULL, digest BLOB NOT NULL,
    transient INTEGER NOT NULL, row TEXT NOT NULL, checksum INTEGER NOT NULL, UNIQUE (stage, position)
)
"""

Job = Callable[[sqlite3.Connection], Any]
Waiter = Future[Any] | asyncio.Future[Any]
Outcome = tuple[Waiter, Any, BaseException | None]


class _Task(NamedTuple):
    """A job and the future that gets its result. With ``flush`` everything handed in before is committed first."""

    job: Job
    waiter: Waiter
    writes: bool
    flush: bool = False


class Database:
    """A database with the journal's tables, used from any thread and any number of event loops of one process.

    Parameters
    ----------
    path: the SQLite file, made if it isn't there; None for a database in memory.

    Raises :class:`lrf.errors.RunError` when the file is no journal, is damaged, or was written by another version.
    Every method raises it for a database that is closed, whose thread has failed, or that was opened before a fork.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._process, self._forks = os.getpid(), forks.count
        self._group_s = 0.0 if path is None else GROUP_S
        self._closed = False
        self._failure: RunError | None = None
        self._spare_failure = RunError("the journal's thread has failed")  # made while there is memory
        self._tasks: queue.SimpleQueue[list[_Task] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Task]] = {}
        self._arriving: list[_Task] = []
        self._reading: list[_Task] = []
        self._writing: list[_Task] = []
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, args=(ready,), name="lrf-journal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise RunError(
                f"the journal's thread can't be started: {error}; end other programs and try again"
            ) from error
        ready.result()

    # --- for callers -------------------------------------------------------------------------------------------

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """The job's result. It may not see writes that aren't committed yet."""
        return await self._submit(job, writes=False)

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """The job's result, once it is committed. The job is done even if its caller is cancelled."""
        return await self._submit(job, writes=True)

    def write_later(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Hand in a job that writes, without waiting for its commit. Never blocks."""
        return self._put(job, writes=True)

    def do(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run a job that only reads, after everything that was handed in before it is committed."""
        return self._put(job, writes=False)

    def close(self) -> None:
        """Commit what has come in and close the file. In a forked process this does nothing: the file isn't its own."""
        if not self._closed and self._forks == forks.count:
            self._closed = True
            for loop in list(self._gathered):
                self._hand_over(loop)
            self._tasks.put(None)
            self._thread.join()

    def check_usable(self) -> None:
        """Raises :class:`lrf.errors.RunError` as every method does."""
        if self._forks != forks.count:
            raise RunError(
                f"the journal was opened by process {self._process} and can't be used in process {os.getpid()}, which "
                "was forked from it: open it in the new process, or use one process"
            )
        if self._closed:
            raise RunError("the journal is closed")
        if self._failure is not None:
            raise self._failure

    def _put(self, job: Callable[[sqlite3.Connection], T], *, writes: bool) -> Future[T]:
        self.check_usable()
        future: Future[T] = Future()
        self._tasks.put([_Task(job, future, writes, flush=not writes)])
        return future

    async def _submit(self, job: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        self.check_usable()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        task = _Task(job, future, writes)
        if gathered := self._gathered.get(loop):
            gathered.append(task)
        else:  # what else comes up in this turn of the loop goes with it: the thread wakes once
            loop.call_soon(self._hand_over, loop)
            self._gathered[loop] = [task]
        return await future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if gathered := self._gathered.pop(loop, None):
            try:
                self._tasks.put(gathered)
            except BaseException as error:
                _settle([(task.waiter, None, error) for task in gathered])
                raise

    # --- the thread --------------------------------------------------------------------------------------------

    def _work(self, ready: Future[None]) -> None:
        try:
            connection = open_connection(self.path)
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            self._serve(connection)
        except BaseException as error:
            self._refuse_all(error)
        connection.close()

    def _serve(self, connection: sqlite3.Connection) -> None:
        """Do what comes in until the database is closed. Tasks are in the thread's lists until their waiters know."""
        writing, reading = self._writing, self._reading
        next_commit = 0.0
        is_open = True
        while is_open:
            is_open = self._take(max(0.0, next_commit - time.monotonic()) if writing else None)
            flush = not is_open or any(task.flush for task in reading)
            if writing and (flush or time.monotonic() >= next_commit):
                _transact(connection, writing, writes=True)
                writing.clear()
                next_commit = time.monotonic() + self._group_s
            if reading:
                _transact(connection, reading, writes=False)
                reading.clear()

    def _take(self, timeout_s: float | None) -> bool:
        """Take all tasks that have come in, after waiting for the first of them. Returns whether more can come."""
        with contextlib.suppress(queue.Empty):
            part = self._tasks.get(timeout=timeout_s)
            while part is not None:
                self._arriving = part
                self._reading += [task for task in part if not task.writes]
                self._writing += [task for task in part if task.writes]
                part = self._tasks.get_nowait()
            return False
        return True

    def _refuse_all(self, cause: BaseException) -> None:
        """Give the thread's failure to every waiter, and to those that still come, until the database is closed."""
        failure = self._spare_failure
        with contextlib.suppress(MemoryError):
            failure = RunError(
                f"the journal's thread has failed: {type(cause).__name__}: {cause}; every reply that was committed is "
                "kept: run the same command again"
            )
        failure.__cause__ = cause
        self._failure = failure
        tasks: list[_Task] | None = [*self._writing, *self._reading, *self._arriving]
        while tasks is not None:
            while tasks:
                try:
                    _tell_waiters([(tasks[-1].waiter, None, failure)])
                    tasks.pop()
                except MemoryError:
                    time.sleep(RETRY_S)  # the run must hear of it: others may give memory back meanwhile
            tasks = self._tasks.get()


def _transact(connection: sqlite3.Connection, tasks: Sequence[_Task], *, writes: bool) -> None:
    """Do the jobs in one transaction and tell their waiters. When it fails nothing of the group counts."""
    outcomes: list[Outcome] = []
    try:
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        for task in tasks:
            try:
                result = task.job(connection)
                # A cursor that is freed in another thread resets its statement, which may be at work here again.
                outcomes.append((task.waiter, None if isinstance(result, sqlite3.Cursor) else result, None))
                del result
            except (sqlite3.Error, MemoryError):
                raise  # the disk is full or gone, or the file damaged; after half a job nothing may be committed
            except Exception as error:
                outcomes.append((task.waiter, None, error))
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        failure = RunError(
            f"the journal can't be {'written' if writes else 'read'}: {error or type(error).__name__}; "
            f"{_remedy(error)} and run the same command again"
        )
        failure.__cause__ = error
        outcomes = [(task.waiter, None, failure) for task in tasks]
    _tell_waiters(outcomes)


def _remedy(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "free memory"
    return "free the disk (or move a damaged journal away)"


def _tell_waiters(outcomes: Sequence[Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        waiter = outcome[0]
        if isinstance(waiter, Future):
            _settle([outcome])
        else:
            by_loop.setdefault(waiter.get_loop(), []).append(outcome)
    for loop, part in by_loop.items():  # each loop is woken once for the whole group
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, part)


def _settle(outcomes: Sequence[Outcome]) -> None:
    """Give waiters of one event loop their results, a few in each turn of it, so that it stays fair to all else."""
    for waiter, value, error in outcomes[:FEW]:
        if waiter.done():  # cancelled in the meantime
            continue
        if error is None:
            waiter.set_result(value)
        else:
            waiter.set_exception(error)
    if rest := outcomes[FEW:]:
        asyncio.get_running_loop().call_soon(_settle, rest)


# --- the file ----------------------------------------------------------------------------------------------------


def open_connection(path: Path | None) -> sqlite3.Connection:
    """The database at a path, or one in memory, with the journal's tables; every statement commits by itself.

    Raises :class:`lrf.errors.RunError` when the file is no journal, is damaged, or was written by another version.
    """
    try:
        connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    connection.text_factory = text_of
    add_checksum_function(connection)
    try:
        # one statement, so that what another process makes meanwhile is seen whole or not at all
        query = "SELECT user_version, EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
        version, has_tables = connection.execute(query).fetchone()
        check_version(path, version, has_tables=bool(has_tables))
        if path is not None:
            network = on_network_filesystem(path.parent)
            # A write-ahead log needs shared memory, which network filesystems don't have.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before anything is in the file
            connection.execute(f"PRAGMA journal_mode = {'TRUNCATE' if network else 'WAL'}")
            connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
            connection.execute("PRAGMA fullfsync = ON")  # on macOS, where syncing alone leaves data in the drive
        if version < VERSION:
            _make_tables(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise unusable(path, error) from error
        raise
    return connection


def unusable(path: Path | None, error: sqlite3.DatabaseError) -> RunError:
    """The error that says what to do about a database that can't be read."""
    return RunError(f"{path} can't be used as a journal: {error}; move it away to start afresh")


def check_version(path: Path | None, version: int, *, has_tables: bool = True) -> None:
    """Raises :class:`lrf.errors.RunError` for a database that is no journal, or one of another version of lrf."""
    if has_tables and not version:
        raise RunError(f"{path} is a database, but no journal of lrf; choose another file")
    if version > VERSION:
        raise RunError(f"{path} was written by a newer lrf (journal version {version}, known: {VERSION})")
    if 0 < version < VERSION:
        raise RunError(
            f"{path} is a journal of an older lrf (version {version}; this one reads version {VERSION}): begin a new "
            "run directory (another `name:` or `--runs`; for a cache, another file), or use the lrf that wrote it"
        )


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make all tables or, if the process is killed, none."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
