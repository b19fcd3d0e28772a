"""A look-up that is spared: what isn't in the filter is surely not in the journal."""

from __future__ import annotations

import os
from pathlib import Path

from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request
from lrf.store.added import Added
from lrf.store.journal import Journal, Kept

KEYS = [bytes([n]) * 16 for n in range(256)]


def test_every_key_that_was_added_is_in_and_few_others_seem_to_be() -> None:
    added, keys = Added(), [os.urandom(16) for _ in range(3000)]
    for key in keys[:2000]:
        added.add(key)
    assert all(key in added for key in keys[:2000])
    assert sum(key in added for key in keys[2000:]) < 20


async def test_an_empty_journal_asks_the_database_for_nothing_but_what_it_was_given(tmp_path: Path) -> None:
    looked_up = 0

    class Counting(Journal):
        async def read(self, job):  # type: ignore[no-untyped-def]
            nonlocal looked_up
            looked_up += 1
            return await super().read(job)

    kept = [Kept(key, "{}", Request((), Rating(), 9, 0.0), Reply("[[7]]"), "s", "d", 0.1) for key in KEYS[:3]]
    fresh = Counting(tmp_path / "journal.sqlite")
    assert await fresh.replies(KEYS) == {}
    assert await fresh.reply(KEYS[0]) is None
    assert looked_up == 0
    await fresh.commit_replies(kept)
    assert (await fresh.reply(KEYS[1]), await fresh.reply(KEYS[9])) == (Reply("[[7]]"), None)
    assert looked_up == 1
    fresh.close()
    for shared in (False, True):  # one that held replies, or that others write to, is always asked
        resumed = Counting(tmp_path / "journal.sqlite" if not shared else tmp_path / "cache.sqlite", shared=shared)
        assert len(await resumed.replies(KEYS)) == (0 if shared else 3)
        resumed.close()
    assert looked_up == 3
