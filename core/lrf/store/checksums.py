"""Checksums of what a journal keeps, and what is done with a row that was changed after it was written.

A failing disk, a bad copy or another program may change a byte in the file without SQLite noticing. So replies, their
usage, vectors and rows of stages each have a CRC-32, which notices every change within 32 bits of a row and misses one
in four billion of the others. It is compared whenever something is read. What differs is never used: all such rows are
taken out, the command ends with an error that says which they were, and the next one asks for them again.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from lrf.errors import DamagedJournalError

SHOWN = 5

REPLY_COLUMNS = (
    "text, finish, prompt_tokens, completion_tokens, cached_tokens, calls, written_tokens, probabilities,"
    " model, reasoning"
)
USAGE_COLUMNS = (
    "judge, dimension, prompt_tokens, completion_tokens, cached_tokens, calls, written_tokens, most_prompt, most_reply"
)
"""What :meth:`lrf.store.journal.Journal.usage` adds up."""

_WRONG_USAGE = f"usage_checksum IS NOT checksum_of({USAGE_COLUMNS})"
_DAMAGED_REPLIES = (
    "SELECT rowid, sample, dimension FROM replies"  # noqa: S608
    f" WHERE checksum IS NOT checksum_of(key, {REPLY_COLUMNS}) OR {_WRONG_USAGE}"
)
_COUNT_AS_UNANSWERED = (
    f"INSERT INTO unanswered (sample, reason, at, {USAGE_COLUMNS}, usage_checksum)"  # noqa: S608
    f" SELECT sample, 'damaged', at, {USAGE_COLUMNS}, usage_checksum FROM replies"
    f" WHERE rowid = ? AND NOT {_WRONG_USAGE}"
)


class DamagedRowError(Exception):
    """A row whose checksum differs was read."""


def text_of(stored: bytes) -> str:
    """A text of the database. Bytes that are no UTF-8 any more are replaced, so that a checksum tells of them."""
    return stored.decode("utf-8", "replace")


def checksum(*values: object) -> int:
    """A CRC-32 of texts, numbers and None; values of other types or in another order have another one."""
    # a text as it is: its repr takes three times as long
    written = [f"{len(v)}:{v}" if type(v) is str else f"{v!r}," for v in values]
    return zlib.crc32("".join(written).encode("utf-8", "surrogatepass"))


def vector_checksum(key: bytes, vector: bytes) -> int:
    """A CRC-32 of a vector and its key."""
    return zlib.crc32(vector, zlib.crc32(key))


def add_checksum_function(connection: sqlite3.Connection) -> None:
    """Let queries on this connection call :func:`checksum` as ``checksum_of``."""
    connection.create_function("checksum_of", -1, checksum, deterministic=True)


def check_usage(connection: sqlite3.Connection) -> None:
    """Raises :class:`DamagedRowError` when the usage of a call was changed."""
    for table in ("replies", "unanswered"):
        if connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {_WRONG_USAGE})").fetchone()[0]:  # noqa: S608
            raise DamagedRowError


def take_out_damaged(connection: sqlite3.Connection, path: Path | None) -> DamagedJournalError:
    """Take all rows out whose checksum differs; returns the error that says which they were. A job that writes.

    The calls of damaged replies still count as paid, unless their usage is what was damaged.
    """
    damaged = connection.execute(_DAMAGED_REPLIES).fetchall()
    replies = [f"the reply to sample {sample!r}, dimension {dimension!r}" for _, sample, dimension in damaged]
    rowids = [(rowid,) for rowid, *_ in damaged]
    connection.executemany(_COUNT_AS_UNANSWERED, rowids)
    connection.executemany("DELETE FROM replies WHERE rowid = ?", rowids)
    calls = connection.execute(f"DELETE FROM unanswered WHERE {_WRONG_USAGE}").rowcount  # noqa: S608
    damaged_vectors = list(_damaged_vectors(connection))
    connection.executemany("DELETE FROM vectors WHERE rowid = ?", damaged_vectors)
    vectors = len(damaged_vectors)
    rows = connection.execute(
        "DELETE FROM rows WHERE checksum IS NOT checksum_of(stage, position, transient, row)"
    ).rowcount
    others = ((vectors, "vectors"), (rows, "rows of a stage under way"), (calls, "notes of calls without a reply"))
    parts = replies[:SHOWN] + ([f"{len(replies) - SHOWN:,} more replies"] if len(replies) > SHOWN else [])
    parts += [f"{count:,} {name}" for count, name in others if count]
    if not parts:
        connection.execute("REINDEX")
        parts = ["an index, which has been made anew"]
    return DamagedJournalError(
        f"{path or 'the journal'}: the following was changed after it was written, by the disk or by another program: "
        f"{'; '.join(parts)}. Nothing of it was used, and it has been taken out: run the same command again to ask for "
        f"{len(replies):,} replies and {vectors:,} vectors once more"
    )


def _damaged_vectors(connection: sqlite3.Connection) -> Iterator[tuple[int]]:
    for rowid, key, vector, stored in connection.execute("SELECT rowid, key, vector, checksum FROM vectors"):
        if not (isinstance(key, bytes) and isinstance(vector, bytes) and vector_checksum(key, vector) == stored):
            yield (rowid,)
