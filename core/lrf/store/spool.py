"""The rows of a stage that is under way: kept in the journal's file until the stage's own files are written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

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
        self._database: Database = journal.database

    async def put_row(
        self, stage: str, position: int, sample: str, sample_digest: bytes, row: str, *, transient: bool
    ) -> None:
        """Keep what the stage made of the sample at this position, in place of an earlier row of it."""
        values = (stage, position, storable(sample), sample_digest, int(transient), redact(row))
        query = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)"
        await self._database.write(lambda connection: connection.execute(query, values))

    async def has_row(self, stage: str, position: int, sample_digest: bytes) -> bool:
        """Whether a final row of this sample is kept; the row of a transient failure doesn't count."""
        query = "SELECT 1 FROM rows WHERE stage = ? AND position = ? AND digest = ? AND NOT transient"
        values = (stage, position, sample_digest)
        return await self._database.read(lambda connection: connection.execute(query, values).fetchone() is not None)

    def rows(self, stage: str) -> Iterator[tuple[int, str]]:
        """(transient, row) of a stage by position. Blocks: not for the event loop."""
        query = (
            f"SELECT position, transient, row FROM rows WHERE stage = ? AND position > ? ORDER BY position LIMIT {PAGE}"  # noqa: S608
        )

        def after(position: int) -> Callable[[sqlite3.Connection], list[Any]]:
            return lambda connection: connection.execute(query, (stage, position)).fetchall()

        position = -1
        while part := self._database.do(after(position)).result():
            for _, transient, row in part:
                yield transient, row
            position = part[-1][0]

    async def drop_rows(self, *, keep: str | None = None) -> None:
        """Forget the rows of every stage but one."""
        query = "DELETE FROM rows WHERE stage IS NOT ?"
        await self._database.write(lambda connection: connection.execute(query, (keep,)))
