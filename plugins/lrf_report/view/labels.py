"""Labelling: two answers at a time, without their names and in a random order; preferences go to a CSV file.

The file has the columns that ``lrf bench LABELS --run RUN`` reads: sample_id, preferred, other.
"""

from __future__ import annotations

import csv
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

import lrf
from lrf.errors import ConfigError
from lrf.types import JSON

COLUMNS = ["sample_id", "preferred", "other"]
TRIES = 50
OPEN_TICKETS = 1000

_random = secrets.SystemRandom()


@dataclass(slots=True)
class Labels:
    """The labels' file, and the questions that were asked and not answered yet.

    Parameters
    ----------
    path: the CSV file, which is added to. Raises :class:`lrf.ConfigError` for one with other columns.
    """

    path: Path
    done: set[str] = field(default_factory=set)
    _asked: dict[str, tuple[str, tuple[str, str]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            return
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if list(rows.fieldnames or ()) != COLUMNS:
                    raise ConfigError(f"{self.path}: expected the columns {','.join(COLUMNS)}; choose another file")
                self.done.update(row["sample_id"] for row in rows)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{self.path} is no CSV file in UTF-8: {error}; choose another file") from error

    def question(self, index: lrf.RunIndex) -> dict[str, JSON] | None:
        """Two answers of a sample without a label, in a random order, without ids, sources and rewards.

        ``ticket`` is for :meth:`answer`. None: no sample with two different answers is left.
        """
        sample = self._sample(index)
        if sample is None:
            return None
        first = _random.choice(sample.candidates)
        second = _random.choice([c for c in sample.candidates if c.text.strip() != first.text.strip()])
        ticket = secrets.token_urlsafe(12)
        with self._lock:
            self._asked[ticket] = sample.id, (first.id, second.id)
            while len(self._asked) > OPEN_TICKETS:
                del self._asked[next(iter(self._asked))]
        return {
            "ticket": ticket,
            "query": sample.sample.query,
            "documents": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.sample.documents],
            "answers": [first.text, second.text],
            "done": len(self.done),
        }

    def answer(self, ticket: str, choice: int | None) -> None:
        """Keep which of the two answers (0 or 1) is better; None passes the sample over in this sitting.

        The label is on the disk when this returns. Raises KeyError for an unknown ticket.
        """
        with self._lock:
            sample, pair = self._asked.pop(ticket)
            self.done.add(sample)
            if choice is None:
                return
            begins = not self.path.exists() or not self.path.stat().st_size
            with self.path.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if begins:
                    writer.writerow(COLUMNS)
                writer.writerow([sample, pair[choice], pair[1 - choice]])
                file.flush()
                os.fsync(file.fileno())

    def _sample(self, index: lrf.RunIndex) -> lrf.ScoredSample | None:
        """A random sample that has no label yet and two different answers; looked for in order after some tries."""
        total = index.samples(limit=1)["total"]
        places = [_random.randrange(total) for _ in range(TRIES)] if total else []
        for place in (*places, *range(total)):
            rows = index.samples(offset=place, limit=1)["rows"]
            if rows and rows[0]["candidates"] > 1 and rows[0]["id"] not in self.done:
                sample, _ = index.sample(rows[0]["id"])
                if len({c.text.strip() for c in sample.candidates}) > 1:
                    return sample
                self.done.add(sample.id)
        return None
