"""A journal with a cache: a second journal, which many runs read and add to."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.errors import RunError
from lrf.prompting.requests import Reply
from lrf.store.journal import Journal, Kept

if TYPE_CHECKING:
    from lrf.protocols import Vectors

PATIENCE_S = 30.0


class CachedJournal(Journal):
    """A run's own journal; what it lacks is looked up in the cache, and what it keeps is added there, too.

    Replies of the cache are not copied: the run's own journal has what this run paid for, and nothing else. SQLite
    lets one process at a time write to the cache, and each does so for moments only.

    Raises :class:`lrf.errors.RunError` when either file can't be used.
    """

    def __init__(self, path: Path | None, cache: Path) -> None:
        self._cache = _open(cache)
        try:
            super().__init__(path)
        except BaseException:
            self._cache.close()
            raise

    async def reply(self, key: bytes) -> Reply | None:
        return await super().reply(key) or await self._cache.reply(key)

    async def replies(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        own = await super().replies(keys)
        return {**own, **await self._cache.replies([key for key in keys if key not in own])}

    async def commit_replies(self, replies: Sequence[Kept]) -> None:
        await _finished(super().commit_replies(replies), self._cache.commit_replies(replies))

    async def vectors(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        own = await super().vectors(keys)
        missing = [key for key in keys if key not in own]
        return {**own, **(await self._cache.vectors(missing) if missing else {})}

    async def commit_vectors(self, embedder: str, keys: Sequence[bytes], vectors: Vectors, *, seconds: float) -> None:
        await _finished(
            super().commit_vectors(embedder, keys, vectors, seconds=seconds),
            self._cache.commit_vectors(embedder, keys, vectors, seconds=seconds),
        )

    def close(self) -> None:
        super().close()
        self._cache.close()


async def _finished(*commits: Coroutine[Any, Any, None]) -> None:
    """Do all of these at once, to their end also if the caller is cancelled: what they keep is paid for."""
    await asyncio.shield(asyncio.gather(*commits))


def open_journal(path: Path | None, cache: Path | None = None) -> Journal:
    """The journal of a run, with the cache that its pipeline names. Raises :class:`lrf.errors.RunError`."""
    return Journal(path) if cache is None else CachedJournal(path, cache)


def _open(cache: Path) -> Journal:
    """The cache's journal, after waiting while another process makes the file or changes its mode."""
    if not cache.parent.is_dir():
        raise RunError(f"cache: there is no folder {cache.parent}; make it, or name another file")
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Journal(cache, shared=True)
        except RunError as error:
            busy = isinstance(error.__cause__, sqlite3.OperationalError) and "locked" in str(error.__cause__)
            if not busy or time.monotonic() > until:
                raise
        time.sleep(0.05)
