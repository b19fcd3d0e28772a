"""A look-up that is spared: what isn't in the filter is surely not in the journal."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request
from lrf.store.added import Added
from lrf.store.database import Database
from lrf.store.journal import Journal, Kept

KEYS = [bytes([n]) * 16 for n in range(256)]


def test_every_key_that_was_added_is_in_and_few_others_seem_to_be() -> None:
    added, keys = Added(), [os.urandom(16) for _ in range(3000)]
    for key in keys[:2000]:
        added.add(key)
    assert all(key in added for key in keys[:2000])
    assert sum(key in added for key in keys[2000:]) < 20


async def test_an_empty_journal_asks_the_database_for_nothing_but_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    read = Database.read

    async def counted(database: Database, job: Any) -> Any:
        looked_up.append(job)
        return await read(database, job)

    monkeypatch.setattr(Database, "read", counted)
    kept = [Kept(key, "{}", Request((), Rating(), 9, 0.0), Reply("[[7]]"), "s", "d", 0.1) for key in KEYS[:3]]
    fresh = Journal(tmp_path / "journal.sqlite")
    assert (await fresh.replies(KEYS), await fresh.reply(KEYS[0]), looked_up) == ({}, None, [])
    await fresh.commit_replies(kept)
    assert (await fresh.reply(KEYS[1]), await fresh.reply(KEYS[9]), len(looked_up)) == (Reply("[[7]]"), None, 1)
    await asyncio.to_thread(fresh.close)
    # one that held replies, or that others write to, is always asked
    for journal, found in ((Journal(tmp_path / "journal.sqlite"), 3), (Journal(tmp_path / "c.sqlite", shared=True), 0)):
        assert len(await journal.replies(KEYS)) == found
        await asyncio.to_thread(journal.close)
    assert len(looked_up) == 3
