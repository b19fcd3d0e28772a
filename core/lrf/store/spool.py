"""The rows of a stage that is under way: kept in the journal's file until the stage's own files are written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from lrf.store.checksums import DamagedRowError, checksum
from lrf.store.database import Database
from lrf.store.journal import Journal
from lrf.text.redaction import redact
from lrf.text.unicode import storable

PAGE = 64
"""Rows read at once."""


class Spool:
    """What each stage made of its samples so far, by the sample's position in the data.

    ``stage`` is the fingerprint under which a stage's rows are kept; rows of other settings never count.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._database: Database = journal.database

    async def put_row(
        self, stage: str, position: int, sample: str, sample_digest: bytes, row: str, *, transient: bool
    ) -> None:
        """Keep what the stage made of the sample at this position, in place of an earlier row of it."""
        row = redact(row)
        expected = checksum(stage, position, int(transient), row)
        values = (stage, position, storable(sample), sample_digest, int(transient), row, expected)
        query = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._database.write(lambda connection: connection.execute(query, values))

    async def last_position(self, stage: str) -> int:
        """The largest position of a row of this stage; -1 without any."""
        query = "SELECT max(position) FROM rows WHERE stage = ?"
        (last,) = await self._database.read(lambda connection: connection.execute(query, (stage,)).fetchone())
        return -1 if last is None else int(last)

    async def has_row(self, stage: str, position: int, sample_digest: bytes) -> bool:
        """Whether a final row of this sample is kept; the row of a transient failure doesn't count."""
        query = "SELECT 1 FROM rows WHERE stage = ? AND position = ? AND digest = ? AND NOT transient"
        values = (stage, position, sample_digest)
        return await self._database.read(lambda connection: connection.execute(query, values).fetchone() is not None)

    def rows(self, stage: str) -> Iterator[tuple[int, str]]:
        """(transient, row) of a stage by position. Blocks: not for the event loop.

        Raises :class:`lrf.errors.DamagedJournalError` for rows that were changed after they were written.
        """
        query = (
            "SELECT position, transient, row, checksum FROM rows WHERE stage = ? AND position > ?"  # noqa: S608
            f" ORDER BY position LIMIT {PAGE}"
        )

        def after(position: int) -> Callable[[sqlite3.Connection], list[Any]]:
            def job(connection: sqlite3.Connection) -> list[Any]:
                page = connection.execute(query, (stage, position)).fetchall()
                if any(checksum(stage, *values) != expected for *values, expected in page):
                    raise DamagedRowError
                return page

            return job

        position = -1
        while part := self._journal.read_now(after(position)):
            for _, transient, row, _ in part:
                yield transient, row
            position = part[-1][0]

    async def drop_rows(self, *, keep: str | None = None) -> None:
        """Forget the rows of every stage but one, and give the room that they took back to the disk."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM rows WHERE stage IS NOT ?", (keep,))
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            for _ in range(free):  # Python's module ends this statement after one step, which gives one page back
                connection.execute("PRAGMA incremental_vacuum(1)")

        await self._database.write(job)
