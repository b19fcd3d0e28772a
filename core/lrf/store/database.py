"""The journal's tables: made, brought up to date, and refused where they are not ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lrf.errors import RunError
from lrf.store.files import on_network_filesystem

VERSION = 4
_TABLES = """
CREATE TABLE IF NOT EXISTS segments (hash BLOB PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS replies (
    key BLOB NOT NULL UNIQUE, judge TEXT NOT NULL, sample TEXT NOT NULL, dimension TEXT NOT NULL,
    kind TEXT NOT NULL, way TEXT NOT NULL, prompt BLOB NOT NULL, attempt INTEGER NOT NULL, draw INTEGER NOT NULL,
    temperature REAL NOT NULL, max_tokens INTEGER NOT NULL, seed INTEGER,
    text TEXT NOT NULL, finish TEXT NOT NULL, probabilities TEXT, model TEXT, reasoning TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL, calls INTEGER NOT NULL DEFAULT 1,
    written_tokens INTEGER NOT NULL DEFAULT 0, most_prompt INTEGER NOT NULL DEFAULT 0,
    most_reply INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY, embedder TEXT NOT NULL, texts INTEGER NOT NULL,
    seconds REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, batch INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    stage TEXT NOT NULL, position INTEGER NOT NULL, sample TEXT NOT NULL, digest BLOB NOT NULL,
    transient INTEGER NOT NULL, row TEXT NOT NULL, PRIMARY KEY (stage, position)
) WITHOUT ROWID
"""

_ADDED = (
    (2, "calls INTEGER NOT NULL DEFAULT 1"),
    (3, "written_tokens INTEGER NOT NULL DEFAULT 0"),
    (4, "most_prompt INTEGER NOT NULL DEFAULT 0"),
    (4, "most_reply INTEGER NOT NULL DEFAULT 0"),
)
"""Columns of replies, after the version that brought them."""


def open_database(path: Path | None) -> sqlite3.Connection:
    """The database at a path, or one in memory, with the journal's tables; every statement commits by itself.

    Raises :class:`lrf.errors.RunError` when the file is no journal, is damaged, or is of a newer lrf.
    """
    connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
    try:
        # one statement, so that what another process makes meanwhile is seen whole or not at all
        query = "SELECT user_version, EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
        found, made = connection.execute(query).fetchone()
        if found > VERSION:
            raise RunError(f"{path} was written by a newer lrf (journal version {found}, known: {VERSION})")
        if made and not found:
            raise RunError(f"{path} is a database, but no journal of lrf; choose another file")
        if path is not None:
            network = on_network_filesystem(path.parent)
            # A write-ahead log needs shared memory, which network filesystems don't have.
            connection.execute(f"PRAGMA journal_mode = {'TRUNCATE' if network else 'WAL'}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if network else 'NORMAL'}")
        if found < VERSION:
            _bring_up_to_date(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise unusable(path, error) from error
        raise
    return connection


def unusable(path: Path | None, error: sqlite3.DatabaseError) -> RunError:
    """The error that says what to do about a database that can't be read."""
    return RunError(f"{path} can't be used as a journal: {error}; move it away to start afresh")


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make the tables, or add what an older lrf's lack: all of it or, if the process is killed, nothing."""
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have been first
    for version, column in _ADDED:
        if 0 < found < version:
            connection.execute(f"ALTER TABLE replies ADD COLUMN {column}")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
