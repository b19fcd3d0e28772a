"""Replies that are read along with one that was asked for: the same replies, and only where it helps."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf.store import ahead
from lrf.store.journal import Journal, Kept

REPLIES = 40 * ahead.BLOCK
KEYS = [b"%015d" % n for n in range(REPLIES)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with many replies."""
    path = tmp_path_factory.mktemp("ahead") / "j"
    asked = Request((Segment("Rate it."),), Rating(), 64, 0.01)
    kept = [Kept(key, "{}", asked, Reply(f"[[{n}]]"), "s", "d", 0.1) for n, key in enumerate(KEYS)]
    with contextlib.closing(Journal(path)) as journal:
        asyncio.run(journal.commit_replies(kept))
    return path


@pytest.fixture
def journal(file: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(file)) as journal:
        yield journal


def statements(journal: Journal, keys: Sequence[bytes]) -> int:
    """How many statements it takes to look these up, one after another; each must bring its own reply."""
    seen: list[str] = []
    journal.do(lambda c: c.set_trace_callback(seen.append)).result()

    async def look_up() -> None:
        for key in keys:
            assert await journal.reply(key) == Reply(f"[[{int(key)}]]")

    asyncio.run(look_up())
    return sum(statement.startswith("SELECT") for statement in seen)


def test_replies_asked_for_nearly_in_their_order_take_few_statements(journal: Journal) -> None:
    nearly = sorted(KEYS, key=lambda key: int(key) + random.Random(key).uniform(0, 300))
    assert statements(journal, nearly) < len(KEYS) / 10
    assert statements(journal, nearly[:10]) == 10  # a reply is handed out once, and its block isn't read again


def test_nothing_more_is_read_along_once_it_was_in_vain(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", 16)  # so that one is read of each block, and is dropped at once
    monkeypatch.setattr(ahead, "TRIED", 10)
    assert statements(journal, random.Random(0).sample(KEYS, len(KEYS))) == len(KEYS) + 11


def test_replies_that_wait_take_little_memory(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", 100 * 500)
    statements(journal, KEYS[:: ahead.BLOCK])
    assert 0 < len(journal._ahead._waiting) <= 100


def test_what_is_damaged_beside_a_reply_concerns_only_who_asks_for_it(journal: Journal) -> None:
    class Damaged(sqlite3.Connection):
        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if "BETWEEN" in statement:
                raise sqlite3.DatabaseError("database disk image is malformed")
            return super().execute(statement, *values)  # type: ignore[arg-type]

    assert journal.path is not None
    with contextlib.closing(sqlite3.connect(journal.path, factory=Damaged)) as connection:
        stored = ahead.ReadAhead().look_up(connection, KEYS[7])
    assert stored is not None
    assert stored[0] == "[[7]]"


def test_no_reply_comes_of_a_journal_that_is_closed(file: Path) -> None:
    journal = Journal(file)
    statements(journal, KEYS[:1])
    journal.close()
    with pytest.raises(Exception, match="closed"):
        asyncio.run(journal.reply(KEYS[1]))
