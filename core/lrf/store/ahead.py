"""Replies that are read along with one that was asked for.

A run that is repeated or resumed asks for the replies of its journal in about the order in which they were kept, since
samples are opened in the data's order each time. So a reply that is found by its key brings those that stand beside it,
and most of the others are then there without a word to the journal's thread, which costs more than the look-up.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import OrderedDict
from typing import Any

from lrf.store.checksums import REPLY_COLUMNS

BLOCK = 64
"""Replies that are read along with one: those whose row numbers divided by this are the same."""
MOST_BYTES = 1 << 22
"""The most bytes, about, of replies that were read along and not yet asked for; a block has at most a sixteenth."""
TRIED = 16 * BLOCK
"""Replies that are read along before it counts whether they are used."""
LEAST_USED = 4
"""Reading along ends unless one in this many of the replies that were read along is used. Reading one takes a tenth of
what asking the journal's thread for it takes."""

_REPLY = f"SELECT rowid, {REPLY_COLUMNS}, checksum FROM replies WHERE key = ?"  # noqa: S608
_BESIDE = f"SELECT key, {REPLY_COLUMNS}, checksum FROM replies WHERE rowid BETWEEN ? AND ?"  # noqa: S608

Stored = tuple[Any, ...]
"""A reply as the journal's table has it, and its checksum, which nobody has compared yet."""

_NOTHING: tuple[int, None] = (0, None)


class ReadAhead:
    """Replies that wait to be asked for; each is handed out once. Used by the journal's thread and its callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[bytes, tuple[int, Stored]] = OrderedDict()
        self._bytes = 0
        self._blocks: OrderedDict[int, None] = OrderedDict()  # those that were read last, newest last
        self._read = self._used = 0

    def take(self, key: bytes) -> Stored | None:
        """The reply under this key, if it was read along with another one."""
        with self._lock:
            size, stored = self._waiting.pop(key, _NOTHING)
            if stored is not None:
                self._used += 1
                self._bytes -= size
        return stored

    def look_up(self, connection: sqlite3.Connection, key: bytes) -> Stored | None:
        """The reply under this key; those beside it are read, too. For the journal's thread."""
        if (stored := self.take(key)) is not None:
            return stored
        row = connection.execute(_REPLY, (key,)).fetchone()
        if row is None:
            return None
        self._read_beside(connection, key, row[0] // BLOCK)
        return tuple(row[1:])

    def _read_beside(self, connection: sqlite3.Connection, asked: bytes, block: int) -> None:
        if block in self._blocks or self._read > TRIED + LEAST_USED * self._used:
            return
        self._blocks[block] = None
        if len(self._blocks) > BLOCK:
            self._blocks.popitem(last=False)
        left = MOST_BYTES // 16
        with contextlib.suppress(sqlite3.DatabaseError):  # what is damaged is told to who asks for it
            for row in connection.execute(_BESIDE, (block * BLOCK, block * BLOCK + BLOCK - 1)):
                if row[0] != asked:
                    left -= self._keep(row[0], row[1:])
                    if left <= 0:
                        break

    def _keep(self, key: bytes, stored: Stored) -> int:
        """Let the reply wait; returns about the bytes that it takes."""
        size = 500 + len(str(stored[0])) + len(str(stored[-2]))  # its text and its reasoning
        with self._lock:
            self._read += 1
            self._bytes += size - self._waiting.pop(key, _NOTHING)[0]
            self._waiting[key] = size, stored
            while self._bytes > MOST_BYTES:
                self._bytes -= self._waiting.popitem(last=False)[1][0]
        return size
