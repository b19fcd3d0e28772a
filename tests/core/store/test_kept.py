"""Reading journals without changing them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrf.errors import RunError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal
from lrf.store.kept import KeptReplies

REQUEST = Request((Segment("Rate it."),), Rating(), 64, 0.01)
REPLY = Reply("[[7]]", usage=Usage(10, 2), probabilities={"[[7]]": 1.0}, model="m", reasoning="Well.")


def fill(path: Path, key: bytes) -> None:
    async def commit() -> None:
        journal = Journal(path)
        await journal.commit_reply(key, "{}", REQUEST, REPLY, sample="s", dimension="d", seconds=1.0)
        await journal.commit_vectors("e", [key], np.ones((1, 2), dtype=np.float32), seconds=1.0)
        await asyncio.to_thread(journal.close)

    asyncio.run(commit())


def test_replies_and_vectors_come_from_the_first_journal_that_has_them_and_no_file_is_made(tmp_path: Path) -> None:
    fill(tmp_path / "run.sqlite", b"one")
    fill(tmp_path / "cache.sqlite", b"two")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    kept = KeptReplies(tmp_path / "run.sqlite", tmp_path / "nowhere.sqlite", None, tmp_path / "cache.sqlite")
    assert bool(kept)
    assert (kept.reply(b"one"), kept.reply(b"two"), kept.reply(b"three")) == (REPLY, REPLY, None)
    assert set(kept.vectors([b"one", b"two", b"three"])) == {b"one", b"two"}
    kept.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "empty.sqlite").touch()
    assert not KeptReplies(tmp_path / "nowhere.sqlite", tmp_path / "empty.sqlite", None)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal

asked = Request((Segment("Rate it."),), Rating(), 64, 0.01)
journal = Journal(Path(sys.argv[1]))
asyncio.run(journal.commit_reply(b"late", "{}", asked, Reply("late"), sample="s", dimension="d", seconds=1))
os._exit(9)
"""


def test_what_a_killed_process_left_in_the_write_ahead_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    fill(path, b"one")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == 9
    assert Path(f"{path}-wal").stat().st_size
    kept = KeptReplies(path)
    reply = kept.reply(b"late")
    kept.close()
    assert reply == Reply("late")


@pytest.mark.parametrize("table", ["replies", "vectors"])
def test_what_was_changed_after_it_was_written_counts_as_missing(tmp_path: Path, table: str) -> None:
    path = tmp_path / "run.sqlite"
    fill(path, b"one")
    column, value = {"replies": ("text", "[[9]]"), "vectors": ("vector", b"\0" * 8)}[table]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
    kept = KeptReplies(path)
    assert (kept.reply(b"one") is None) == (table == "replies")
    assert (kept.vectors([b"one"]) == {}) == (table == "vectors")
    kept.close()


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(RunError, match=r"run\.sqlite"):
        KeptReplies(path)


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    fill(path, b"one")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(RunError, match="version"):
        KeptReplies(path)
