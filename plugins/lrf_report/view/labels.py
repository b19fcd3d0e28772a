"""Labelling: answers without their names and in a random order; preferences or ratings go to a CSV file.

The file has the columns that ``lrf bench LABELS --run RUN`` reads: sample_id, preferred, other, or sample_id,
candidate_id, rating.
"""

from __future__ import annotations

import csv
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

import lrf
from lrf.errors import ConfigError
from lrf.types import JSON

TRIES = 50
OPEN_TICKETS = 1000
SCALE = 5
"""The best rating; 1 is the worst."""

Key = tuple[str, ...]
"""What a label is of: a sample, or a sample and a candidate."""

_random = secrets.SystemRandom()


class Labels(ABC):
    """The labels' file, and the questions that were asked and not answered yet.

    Parameters
    ----------
    path: the CSV file, which is added to. Raises :class:`lrf.ConfigError` for one with other columns.
    """

    kind: ClassVar[str]
    columns: ClassVar[Sequence[str]]
    choices: ClassVar[Sequence[int]]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: set[Key] = set()
        self._begun: str | None = None  # a sample to ask about before others
        self._finished: set[str] = set()  # samples without a question left
        self._asked: dict[str, tuple[str, tuple[str, ...]]] = {}  # sample and candidates, by ticket
        self._lock = threading.Lock()
        self.done.update(self._kept())

    @abstractmethod
    def key(self, sample: str, candidate: str) -> Key:
        """What a label of this candidate (the first of those asked about) is kept as done under."""

    @abstractmethod
    def ask(self, sample: lrf.ScoredSample) -> Sequence[lrf.ScoredCandidate]:
        """The candidates to ask about, in a random order; none where the sample has no question left."""

    @abstractmethod
    def row(self, candidates: Sequence[str], choice: int) -> Sequence[str]:
        """The file's row after the sample's id."""

    def _kept(self) -> Iterator[Key]:
        """What the file has labels of."""
        if not self.path.exists() or not self.path.stat().st_size:
            return
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if list(rows.fieldnames or ()) != list(self.columns):
                    raise ConfigError(
                        f"{self.path}: expected the columns {','.join(self.columns)}, which {self.kind} have; choose "
                        "another file"
                    )
                for row in rows:
                    yield self.key(row["sample_id"], row[self.columns[1]])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{self.path} is no CSV file in UTF-8: {error}; choose another file") from error

    def question(self, index: lrf.RunIndex) -> dict[str, JSON] | None:
        """Answers of a sample without a label, in a random order, without ids, sources and rewards.

        ``ticket`` is for :meth:`answer`, ``choices`` are what it takes. None: no question is left.
        """
        with self._lock:
            sample, candidates = self._next(index)
            if sample is None:
                return None
            ticket = secrets.token_urlsafe(12)
            self._asked[ticket] = sample.id, tuple(c.id for c in candidates)
            while len(self._asked) > OPEN_TICKETS:
                del self._asked[next(iter(self._asked))]
        return {
            "kind": self.kind,
            "choices": list(self.choices),
            "ticket": ticket,
            "query": sample.sample.query,
            "documents": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.sample.documents],
            "answers": [candidate.text for candidate in candidates],
            "done": len(self.done),
        }

    def answer(self, ticket: str, choice: int | None) -> None:
        """Keep a choice; None passes the question over in this sitting.

        The label is on the disk when this returns. Raises KeyError for an unknown ticket, ValueError for a choice that
        isn't one.
        """
        if choice is not None and choice not in self.choices:
            raise ValueError(choice)
        with self._lock:
            sample, candidates = self._asked.pop(ticket)
            self.done.add(self.key(sample, candidates[0]))
            if choice is None:
                return
            begins = not self.path.exists() or not self.path.stat().st_size
            with self.path.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if begins:
                    writer.writerow(self.columns)
                writer.writerow([sample, *self.row(candidates, choice)])
                file.flush()
                os.fsync(file.fileno())

    def _next(self, index: lrf.RunIndex) -> tuple[lrf.ScoredSample | None, Sequence[lrf.ScoredCandidate]]:
        """A random sample with a question left; looked for in order after some tries."""
        total = index.samples(limit=1)["total"]
        places = [_random.randrange(total) for _ in range(TRIES)] if total else []
        for id_ in chain([self._begun], (_id_at(index, place) for place in chain(places, range(total)))):
            if id_ is None or id_ in self._finished or (id_,) in self.done:
                continue
            sample, _ = index.sample(id_)
            if candidates := self.ask(sample):
                return sample, candidates
            self._finished.add(id_)
        return None, ()


def _id_at(index: lrf.RunIndex, place: int) -> str | None:
    rows = index.samples(offset=place, limit=1)["rows"]
    return rows[0]["id"] if rows else None


class Preferences(Labels):
    """Which of two answers is better: a label a sample."""

    kind = "preferences"
    columns = ("sample_id", "preferred", "other")
    choices = (0, 1)

    def key(self, sample: str, candidate: str) -> Key:
        return (sample,)

    def ask(self, sample: lrf.ScoredSample) -> Sequence[lrf.ScoredCandidate]:
        if len({c.text.strip() for c in sample.candidates}) < 2:
            return ()
        first = _random.choice(sample.candidates)
        return first, _random.choice([c for c in sample.candidates if c.text.strip() != first.text.strip()])

    def row(self, candidates: Sequence[str], choice: int) -> Sequence[str]:
        return candidates[choice], candidates[1 - choice]


class Ratings(Labels):
    """How good each answer is, from 1 to :data:`SCALE`: all answers of a sample, one after another.

    So the document of a sample is read once, and its answers can be ranked.
    """

    kind = "ratings"
    columns = ("sample_id", "candidate_id", "rating")
    choices = tuple(range(1, SCALE + 1))

    def key(self, sample: str, candidate: str) -> Key:
        return sample, candidate

    def ask(self, sample: lrf.ScoredSample) -> Sequence[lrf.ScoredCandidate]:
        left = [c for c in sample.candidates if (sample.id, c.id) not in self.done]
        self._begun = sample.id if left else None
        return [_random.choice(left)] if left else ()

    def row(self, candidates: Sequence[str], choice: int) -> Sequence[str]:
        return candidates[0], str(choice)
