"""The rows of a stage that is under way: kept in the journal's file until the stage's own files are written."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lrf.errors import LrfError
from lrf.store.checksums import DamagedRowError, checksum
from lrf.store.database import Database
from lrf.store.journal import Journal
from lrf.text.redaction import redact
from lrf.text.unicode import storable

PAGE = 64
"""Rows read at once."""
GROUP = 512
GROUP_CHARACTERS = 1 << 20
"""Rows, and their characters, that are written at once."""
SOON_S = 0.2
"""Seconds after which a row is committed in any case."""

_PUT = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)"


class Spool:
    """What each stage made of its samples so far, by the sample's position in the data.

    ``stage`` is the fingerprint under which a stage's rows are kept; rows of other settings never count.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._database: Database = journal.database
        self._added: list[tuple[object, ...]] = []
        self._characters = 0
        self._flushing = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None
        self._failure: LrfError | None = None

    async def add_row(
        self, stage: str, position: int, sample: str, sample_digest: bytes, row: str, *, transient: bool
    ) -> None:
        """Keep what the stage made of the sample at this position, in place of an earlier row of it.

        It is committed soon, with others, and at :meth:`flush`. Raises what went wrong with earlier rows, too.
        """
        row = redact(row)
        expected = checksum(stage, position, int(transient), row)
        self._added.append((stage, position, storable(sample), sample_digest, int(transient), row, expected))
        self._characters += len(row)
        if len(self._added) >= GROUP or self._characters >= GROUP_CHARACTERS:
            await self.flush()
        elif self._later is None:
            self._later = asyncio.create_task(self._flush_later())

    async def flush(self) -> None:
        """Return when all rows that were added are committed. Raises :class:`lrf.errors.RunError`."""
        async with self._flushing:
            if self._failure is not None:
                raise self._failure
            added, self._added, self._characters = self._added, [], 0
            if not added:
                return
            try:
                await self._database.write(lambda connection: connection.executemany(_PUT, added))
            except LrfError as error:
                self._failure = error
                raise

    async def _flush_later(self) -> None:
        await asyncio.sleep(SOON_S)
        self._later = None
        with contextlib.suppress(LrfError):  # the next who adds a row or flushes gets it
            await self.flush()

    async def last_position(self, stage: str) -> int:
        """The largest position of a row of this stage; -1 without any."""
        query = "SELECT max(position) FROM rows WHERE stage = ?"
        (last,) = await self._database.read(lambda connection: connection.execute(query, (stage,)).fetchone())
        return -1 if last is None else int(last)

    async def finished(self, stage: str, position: int) -> Mapping[int, bytes]:
        """The digests of samples with a final row among the :data:`PAGE` positions from this one on.

        The row of a transient failure is none.
        """
        query = "SELECT position, digest FROM rows WHERE stage = ? AND position BETWEEN ? AND ? AND NOT transient"
        values = (stage, position, position + PAGE - 1)
        return dict(await self._database.read(lambda connection: connection.execute(query, values).fetchall()))

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
            if keep is None:  # without a condition SQLite empties the table at once
                connection.execute("DELETE FROM rows")
            else:
                connection.execute("DELETE FROM rows WHERE stage IS NOT ?", (keep,))
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            for _ in range(free):  # Python's module ends this statement after one step, which gives one page back
                connection.execute("PRAGMA incremental_vacuum(1)")

        await self._database.write(job)
