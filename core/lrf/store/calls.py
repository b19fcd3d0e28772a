"""The calls in a journal, one after another, for reports: read without making or changing a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lrf.store.database import unusable
from lrf.store.kept import has_content, read_only

_REPLIES = (
    "SELECT dimension, at, seconds, attempt, prompt_tokens, completion_tokens, cached_tokens, finish, model"
    " FROM replies ORDER BY at"
)
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


def _rows(journal: Path, query: str) -> Iterator[tuple[Any, ...]]:
    if not has_content(journal):
        return
    connection = read_only(journal)
    try:
        yield from connection.execute(query)
    except sqlite3.DatabaseError as error:
        raise unusable(journal, error) from error
    finally:
        connection.close()
