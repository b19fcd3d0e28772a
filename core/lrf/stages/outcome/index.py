"""An index of a run for looking through it: any sample at once, filters and orders, however large the run is.

One pass over the run in a thread of its own fills an SQLite file in a temporary folder, so nothing is written into the
run and memory stays flat. What has been indexed so far can be asked for while the rest is being read. A sample's texts
are kept compressed; its judgements stay where they are and are found again by their place in the file. A run that is
scored again is read again.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from lrf.errors import LrfError, RunError
from lrf.stages.outcome.figures import Figures
from lrf.stages.outcome.joined import ScoredSample
from lrf.stages.outcome.loading import ScoredRun
from lrf.stages.outcome.text_search import SearchedTexts
from lrf.stages.score.rows import judgement_rows_at
from lrf.store.calls import exchange, exchanges
from lrf.types import JSON

__all__ = ["RunIndex"]

ROWS_A_COMMIT = 50
AGAIN_S, SHARE = 3.0, 5
"""A run that is under way is read again after :data:`AGAIN_S` seconds, or :data:`SHARE` times as long as that takes."""
ORDERS = {
    "in_order": "position",
    "by_margin": "highest - lowest DESC, position",
    "by_lowest": "lowest IS NULL, lowest, position",
    "by_unscored": "unscored DESC, position",
}
"""How samples can be sorted, by the names that the page uses."""

_TABLE = """CREATE TABLE samples (position INTEGER PRIMARY KEY, id TEXT UNIQUE, query TEXT, candidates INTEGER,
    unscored INTEGER, best TEXT, highest REAL, lowest REAL, place INTEGER, bytes INTEGER, texts BLOB)"""
_SHOWN = ("id", "query", "candidates", "unscored", "best", "highest", "lowest")


class RunIndex:
    """The index of a run. Close it to remove its temporary file.

    Parameters
    ----------
    run: what is indexed, from when the index is made on.

    ``complete``: the whole run was read. ``state`` is another text whenever there is more or something else to be seen,
    and ``scored`` whenever the run was scored anew; ``problem`` says why it can't be read, or is None.
    """

    def __init__(self, run: ScoredRun) -> None:
        self.run = run
        self.problem: str | None = None
        self.complete = False
        self.state = ""
        self.scored = ""
        self._figures = run.figures()
        self._figures_lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="lrf-view-")
        self._file = Path(self._folder.name) / "index.sqlite"
        self._stop = threading.Event()
        self._changes = 0
        with closing(self._connection()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_TABLE)
        self._texts = SearchedTexts(self._folder.name)
        self._thread = threading.Thread(target=self._fill, name="lrf-index", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading the run and remove the index."""
        self._stop.set()
        self._thread.join()
        self._folder.cleanup()

    # --- asking ------------------------------------------------------------------------------------------------

    def samples(
        self, containing: str = "", order: str = "in_order", offset: int = 0, limit: int = 100, *, texts: bool = False
    ) -> JSON:
        """Lines of samples whose id or question has this text (in any case of ASCII letters), and how many there are.

        With ``texts`` also those whose documents, answers or reference have it (in any case of letters). ``order`` is a
        key of :data:`ORDERS`. Raises KeyError for another one.
        """
        pattern = "%" + containing.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        where = "WHERE (id || char(10) || query LIKE ? ESCAPE '\\' OR position IN (SELECT value FROM json_each(?)))"
        with closing(self._connection()) as connection:
            connection.execute("BEGIN")  # rows and texts of one state
            connection.execute("SELECT 1 FROM samples LIMIT 1")
            positions = list(self._texts.positions(containing)) if texts and containing else []
            values = pattern, json.dumps(positions)
            (total,) = connection.execute(f"SELECT count(*) FROM samples {where}", values).fetchone()  # noqa: S608
            rows = connection.execute(
                f"SELECT {', '.join(_SHOWN)} FROM samples {where} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",  # noqa: S608
                (*values, limit, offset),
            ).fetchall()
        return {
            "rows": [dict(zip(_SHOWN, row, strict=True)) for row in rows],
            "total": total,
            "complete": self.complete,
            "problem": self.problem,
        }

    def sample(self, id_: str) -> tuple[ScoredSample, dict[str, JSON]]:
        """A sample, and its place in the run: ``previous`` and ``next`` ids, ``place`` from 1, ``of`` how many.

        Raises KeyError for one that isn't there (yet), :class:`lrf.RunError` for damaged files.
        """
        with closing(self._connection()) as connection:
            query = "SELECT position, place, bytes, texts FROM samples WHERE id = ?"
            if (row := connection.execute(query, (id_,)).fetchone()) is None:
                raise KeyError(id_)
            position, place, length, texts = row
            query = "SELECT position, id FROM samples WHERE position IN (?, ?)"
            beside = dict(connection.execute(query, (position - 1, position + 1)))
            (of,) = connection.execute("SELECT count(*) FROM samples").fetchone()
        sample, rewards = pickle.loads(zlib.decompress(texts))  # noqa: S301  # written by this process
        if place is not None:
            judged = judgement_rows_at(self.run.files.judgements, place, length)
            if [key for *key, _ in judged] != [[id_, r.candidate_id] for r in rewards]:
                raise RunError("the run has been scored again just now; it will be read again in a few seconds")
            rewards = [replace(r, judgements=j) for r, (_, _, j) in zip(rewards, judged, strict=True)]
        before, after = beside.get(position - 1), beside.get(position + 1)
        around = {"previous": before, "next": after, "place": position + 1, "of": of}
        return ScoredSample.of(sample, rewards), around

    def exchanges(self, sample: str) -> list[dict[str, JSON]]:
        """What judges were asked about a sample, oldest first, without the texts. Raises :class:`lrf.RunError`."""
        return exchanges(self.run.files.journal, sample)

    def exchange(self, number: int) -> tuple[str, str, str | None] | None:
        """The prompt, the reply and the reasoning of one of the ``exchanges``, by its number."""
        return exchange(self.run.files.journal, number)

    def figures(self) -> dict[str, JSON]:
        """The figures of what has been indexed so far, without the list of samples."""
        with self._figures_lock:
            return {**self._figures.as_json(), "samples": []}

    # --- filling -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        tried = ""
        while not self._stop.is_set():
            began = time.monotonic()
            under_way = self.run.under_way
            try:
                if under_way or tried != _scored(self.run):
                    tried = "" if under_way else _scored(self.run)
                    self._replace(self.run)
                    self.problem, self.scored = None, tried
            except (LrfError, OSError) as error:
                self.problem = str(error)
            except Exception as error:  # a source of somebody else's
                self.problem = f"{type(error).__name__}: {error}"
            if not self.complete and not under_way and not self._stop.is_set():
                self.complete = True
                self._changed()
            self._stop.wait(max(AGAIN_S, SHARE * (time.monotonic() - began)) if under_way else AGAIN_S)

    def _changed(self) -> None:
        self._changes += 1
        self.state = str(self._changes)

    def _replace(self, run: ScoredRun) -> None:
        """Index the run from its beginning. Read a second time, readers see all that was read or nothing of it."""
        figures, at_once = run.figures(), run.under_way or self._changes > 0
        texts = SearchedTexts(self._folder.name)
        if not at_once:
            self._texts = texts
        rows = enumerate(_with_places(run))
        with closing(self._connection()) as connection:
            connection.execute("BEGIN")
            connection.execute("DELETE FROM samples")
            while (part := list(islice(rows, ROWS_A_COMMIT))) and not self._stop.is_set():
                with self._figures_lock:
                    lines = [_row(figures, position, *placed) for position, placed in part]
                for _, (scored, _, _) in part:
                    texts.add(scored.sample)
                connection.executemany(f"INSERT INTO samples VALUES ({', '.join('?' * 11)})", lines)  # noqa: S608
                if not at_once:
                    texts.flush()
                    connection.execute("COMMIT")
                    self._figures = figures
                    self._changed()
                    connection.execute("BEGIN")
            texts.flush()
            connection.execute("COMMIT")
            self._figures, self._texts = figures, texts
        self._changed()

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=30, isolation_level=None)


def _scored(run: ScoredRun) -> str:
    """What differs when the run is scored again."""
    kept = [path.stat() for path in (run.files.rewards, run.files.judgements)]
    return " ".join(f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}" for stat in kept)


def _row(figures: Figures, position: int, scored: ScoredSample, place: int | None, length: int) -> tuple[Any, ...]:
    """The index's row of a sample. The figures count it but keep no line of their own."""
    figures.add(scored)
    line = figures.index.pop()
    rewards = [scored.candidate(c.id).reward for c in scored.sample.candidates]
    texts = zlib.compress(pickle.dumps((scored.sample, rewards)), 1)
    return position, *(line[name] for name in _SHOWN), place, length, texts


def _with_places(run: ScoredRun) -> Iterator[tuple[ScoredSample, int | None, int]]:
    """Each sample, and the place and length in bytes of its lines in ``judgements.jsonl``, which it is read without.

    Of a run under way there is no such file: its samples come with their judgements, and the place is None.
    """
    if run.under_way:
        yield from ((scored, None, 0) for scored in run.samples())
        return
    with run.files.judgements.open("rb") as file:
        place = 0
        for scored in run.samples(judgements=False):
            length = sum(len(file.readline()) for _ in scored.candidates)
            yield scored, place, length
            place += length
