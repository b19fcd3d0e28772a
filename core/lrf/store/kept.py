"""Reading what a run has paid for, without making or changing a file: for plans."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lrf.errors import RunError
from lrf.prompting.requests import Reply, Usage
from lrf.store.checksums import REPLY_COLUMNS, DamagedRowError, checksum, text_of, vector_checksum
from lrf.store.database import check_version, unusable
from lrf.store.files import dump

_REPLY = f"SELECT {REPLY_COLUMNS}, checksum FROM replies WHERE key = ?"  # noqa: S608
_REPLIES = f"SELECT key, {REPLY_COLUMNS}, checksum FROM replies WHERE key IN ({{}})"  # noqa: S608
_VECTORS = "SELECT key, vector, checksum FROM vectors WHERE key IN ({})"
A_QUERY = 500
_WAL = b"\x02\x02"
"""Bytes 18 and 19 of an SQLite file with a write-ahead log (file format, section 1.3)."""


def select_reply(connection: sqlite3.Connection, key: bytes) -> Reply | None:
    """The reply under this key in a journal's tables, or None. Raises :class:`DamagedRowError`."""
    stored = connection.execute(_REPLY, (key,)).fetchone()
    return None if stored is None else reply_of(key, *stored)


def select_replies(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Reply]:
    """The replies under those of the keys that have one. Raises :class:`DamagedRowError`."""
    return {key: reply_of(key, *stored) for key, *stored in _rows(connection, _REPLIES, keys)}


def _rows(connection: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    """The rows under these keys, a few hundred keys a query."""
    for i in range(0, len(keys), A_QUERY):
        part = keys[i : i + A_QUERY]
        yield from connection.execute(query.format(",".join("?" * len(part))), part)


def reply_of(key: bytes, *stored: Any) -> Reply:
    """The reply in these columns of a row and its checksum. Raises :class:`DamagedRowError`."""
    *row, expected = stored
    if checksum(key, *row) != expected:
        raise DamagedRowError
    text, ended, *numbers, probabilities, model, reasoning = row
    finish, _, word = ended.partition(":")
    known = json.loads(probabilities) if probabilities else None
    return Reply(text, finish, Usage(*numbers), known, model, reasoning, word or None)


_quoted = lru_cache(1024)(dump)
"""A judge's options are the same in all its questions."""


def written(probabilities: Mapping[str, float]) -> str:
    """Probabilities as the journal keeps them, in JSON; an encoder for each would take five times as long."""
    pairs = ",".join([f"{_quoted(option)}:{p!r}" for option, p in probabilities.items()])
    return f"{{{pairs}}}"


def select_vectors(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The vectors (float32, little endian) under those of the keys that have one. Raises :class:`DamagedRowError`."""
    kept: dict[bytes, bytes] = {}
    for key, vector, expected in _rows(connection, _VECTORS, keys):
        if not isinstance(vector, bytes) or vector_checksum(key, vector) != expected:
            raise DamagedRowError
        kept[key] = vector
    return kept


class KeptReplies:
    """The replies and vectors of journals, in the order given: the run's own, then a cache. Every method blocks.

    Replies and vectors that were changed after they were written count as missing: a run asks for them again.

    Parameters
    ----------
    paths: the journals' files; those that don't exist or are empty are passed over.

    Raises :class:`lrf.errors.RunError` for a file that is no journal of this version of lrf.
    """

    def __init__(self, *paths: Path | None) -> None:
        self._journals: list[tuple[Path, sqlite3.Connection]] = []
        try:
            self._journals += [(path, read_only(path)) for path in paths if path and has_content(path)]
        except BaseException:
            self.close()
            raise

    def __bool__(self) -> bool:
        return bool(self._journals)

    def reply(self, key: bytes) -> Reply | None:
        """The reply under this key, or None."""
        for path, connection in self._journals:
            try:
                with contextlib.suppress(DamagedRowError):
                    if (reply := select_reply(connection, key)) is not None:
                        return reply
            except sqlite3.DatabaseError as error:
                raise unusable(path, error) from error
        return None

    def vectors(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors (float32, little endian) under those of the keys that have one."""
        kept: dict[bytes, bytes] = {}
        for path, connection in self._journals:
            try:
                for key in keys:
                    if key not in kept:
                        with contextlib.suppress(DamagedRowError):
                            kept |= select_vectors(connection, [key])
            except sqlite3.DatabaseError as error:
                raise unusable(path, error) from error
        return kept

    def close(self) -> None:
        for _, connection in self._journals:
            connection.close()
        self._journals.clear()


def has_content(path: Path) -> bool:
    """Whether there is a file that isn't empty."""
    return path.exists() and path.stat().st_size > 0


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that can't write.

    A write-ahead log that was closed cleanly has no file next to the database. SQLite would make one even for reading,
    unless it knows that the file can't change.
    """
    try:
        with path.open("rb") as file:
            clean = file.read(20)[18:20] == _WAL and not Path(f"{path}-wal").exists()
        uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if clean else ''}"
        connection = sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False)
        connection.text_factory = text_of
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror}") from error
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        check_version(path, version)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise unusable(path, error) from error
        raise
    return connection
