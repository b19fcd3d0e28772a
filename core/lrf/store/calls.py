"""The calls in a journal, one after another, for reports: read without making or changing a file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lrf.store.database import unusable
from lrf.store.journal import SEGMENTS
from lrf.store.kept import has_content, read_only

_REPLIES = (
    "SELECT dimension, at, seconds, attempt, prompt_tokens, completion_tokens, cached_tokens, finish, model"
    " FROM replies ORDER BY at"
)
_EXCHANGE = ("number", "dimension", "kind", "attempt", "repeat", "finish", "model", "seconds", "at")
_EXCHANGES = (
    "SELECT rowid, dimension, kind, attempt, repeat, finish, model, seconds, at FROM replies"
    " WHERE sample = ? ORDER BY at"
)
_HASH = 16
"""Bytes of a segment's hash."""
_LISTED = re.compile(r"[0-9a-f]{32}(?: [0-9a-f]{32})*+")
_UNANSWERED = "SELECT dimension, reason, count(*) FROM unanswered GROUP BY dimension, reason ORDER BY 3 DESC"


class Call(NamedTuple):
    """A call with its reply. ``at`` is when the reply was kept, in seconds since 1970; ``attempt`` counts from 0."""

    dimension: str
    at: float
    seconds: float
    attempt: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    finish: str
    model: str | None


def calls(journal: Path) -> Iterator[Call]:
    """The calls by time; none where there is no journal. Raises :class:`lrf.errors.RunError` for an unusable one."""
    for row in _rows(journal, _REPLIES):
        yield Call(*row)


def unanswered(journal: Path) -> list[tuple[str, str, int]]:
    """(dimension, reason, number) of calls without a usable reply, most first. Raises as :func:`calls` does."""
    return [(dimension, reason, count) for dimension, reason, count in _rows(journal, _UNANSWERED)]


def unanswered_at(journal: Path) -> Iterator[float]:
    """When each of the calls without a usable reply ended, in seconds since 1970. Raises as :func:`calls` does."""
    for (at,) in _rows(journal, "SELECT at FROM unanswered WHERE reason <> 'in_flight' ORDER BY at"):
        yield at


def exchanges(journal: Path, sample: str) -> list[dict[str, Any]]:
    """The exchanges with judges about a sample, oldest first, without their texts: :func:`exchange` has these."""
    return [dict(zip(_EXCHANGE, row, strict=True)) for row in _rows(journal, _EXCHANGES, (sample,))]


def exchange(journal: Path, number: int) -> tuple[str, str, str | None] | None:
    """The prompt, the reply and the reasoning of an exchange, by its ``number``; None for one that isn't there."""
    query = "SELECT prompt, text, reasoning FROM replies WHERE rowid = ?"
    for blob, reply, reasoning in _rows(journal, query, (number,)):
        return "".join(_texts(journal, blob)), reply, reasoning
    return None


def _texts(journal: Path, hashes: bytes) -> Iterator[str]:
    """The texts of segments; in place of one that lists others, theirs."""
    for start in range(0, len(hashes), _HASH):
        for (text,) in _rows(journal, "SELECT text FROM segments WHERE hash = ?", (hashes[start : start + _HASH],)):
            listed = text.removeprefix(SEGMENTS)
            if listed != text and _LISTED.fullmatch(listed):
                yield from _texts(journal, bytes.fromhex(listed))
            else:
                yield text


def spooled(journal: Path, separator: str) -> Iterator[str]:
    """The rows that a stage under way has made so far, by position: those that have the separator in them."""
    for (row,) in _rows(journal, "SELECT row FROM rows WHERE instr(row, ?) ORDER BY stage, position", (separator,)):
        yield row


def _rows(journal: Path, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if not has_content(journal):
        return
    connection = read_only(journal)
    try:
        yield from connection.execute(query, values)
    except sqlite3.DatabaseError as error:
        raise unusable(journal, error) from error
    finally:
        connection.close()
