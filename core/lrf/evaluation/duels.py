"""Two policies' answers to the same questions, kept in a temporary file, so that memory doesn't grow with them."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.evaluation.baselines import share_of
from lrf.rows.formats import objects_of
from lrf.stages.run_dir import RunDir
from lrf.text.unicode import storable
from lrf.types import JSON, Candidate, Sample

KEYS = ("sample_id", "id", "question_id", "idx", "instruction")
"""The fields that may say which question an answer is to; an instruction is the question itself."""
TEXTS = ("output", "text", "answer", "pred", "response", "prediction")
"""The fields that may hold the answer."""

_TABLES = (
    "CREATE TABLE answers (policy TEXT, key TEXT, turns TEXT, PRIMARY KEY (policy, key)) WITHOUT ROWID",
    "CREATE TABLE duels (position INTEGER PRIMARY KEY, id TEXT, query TEXT, about TEXT, a TEXT, b TEXT, shuffled REAL)",
)


def read_answers(path: Path) -> Iterator[tuple[str, Sequence[str], str]]:
    """One policy's answers: the question's id, or the question itself; the answer to each turn; and file and line.

    Reads a run's folder (the first candidate of each sample), and files of rows: lrf's own, AlpacaEval's outputs
    (instruction, output), MT-Bench's model answers (question_id, choices) and LongBench's predictions. All but
    MT-Bench's have one turn.
    Raises :class:`lrf.errors.DataError` for rows that are none of these.
    """
    if path.is_dir():
        path = RunDir(path).candidates
        if not path.is_file():
            raise DataError(f"{path} is not there; expected the folder of a run that sampled candidates")
    for row, where in objects_of(path):
        if row.get("candidates") == []:
            continue  # a sample that the run left out
        key = next((str(row[name]) for name in KEYS if row.get(name) not in (None, "")), None)
        turns = _turns(row)
        if key is None or turns is None:
            raise DataError(f"{where}: expected one of {', '.join(KEYS)}, and one of {', '.join(TEXTS)}, or choices")
        yield key, turns, where


def _turns(row: Mapping[str, Any]) -> Sequence[str] | None:
    for name in TEXTS:
        if isinstance(row.get(name), str):
            return [str(row[name])]
    match row:
        case {"choices": [{"turns": [*turns]}, *_]} if turns and all(isinstance(turn, str) for turn in turns):
            return turns
        case {"candidates": [{"text": str(text)}, *_]}:
            return [text]
    return None


@dataclass(frozen=True, slots=True)
class Duel:
    """A question with both policies' answers.

    Parameters
    ----------
    a, b: the answers that are judged, to the last turn.
    before: of a conversation the turn before: what was asked, and what a and b answered; else None. Where a policy's
        file has no answer to it, it is the assistant's turn in the data.
    references: the reference answers that the data has.
    language, dataset: the row's, where its metadata has them (LongBench's does); else "".
    """

    sample: Sample
    a: str
    b: str
    references: tuple[str, ...] = ()
    language: str = ""
    dataset: str = ""
    before: tuple[str, str, str] | None = None

    def row(self, *, compare: bool) -> Mapping[str, JSON]:
        """The row of data: the answers in an order that a hash decides; to compare, both orders as candidates."""
        from lrf.evaluation.questions import question_row
        from lrf.protocols import BenchmarkItem

        answers = (Candidate("a", self.a), Candidate("b", self.b))
        sample = replace(self.sample, candidates=answers)
        row = dict(question_row(BenchmarkItem(sample, None), compare=compare))
        if sample.reference is not None:
            row["reference"] = sample.reference
        return {**row, "metadata": dict(sample.metadata)}

    @property
    def first(self) -> str:
        """Which policy people are shown first: "a" or "b"."""
        return "a" if share_of("people", self.sample.id) < 0.5 else "b"


class Duels:
    """The questions that both policies answered. Iterating gives them in the data's order, without their documents.

    Parameters
    ----------
    a, b: the policies' answers: see :func:`read_answers`.

    ``counts``: questions that both answered, only one, or neither; and answers to no question of the data. Raises
    :class:`lrf.errors.DataError` for files that can't be read, and for two answers to one question.
    """

    def __init__(self, a: Path, b: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = tempfile.TemporaryDirectory(prefix="lrf-evaluate-")
        self._connection = sqlite3.connect(Path(self._folder.name) / "duels.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        for table in _TABLES:
            self._connection.execute(table)
        for policy, path in (("a", a), ("b", b)):
            self._keep(policy, path)

    def __enter__(self) -> Duels:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def __len__(self) -> int:
        return self.counts["questions"]

    def __iter__(self) -> Iterator[Duel]:
        return self._read("position")

    def shuffled(self) -> Iterator[Duel]:
        """The questions in an order that a hash decides."""
        return self._read("shuffled, position")

    def matched(self, samples: Iterator[Sample]) -> Iterator[Duel]:
        """Find the samples that both policies answered, keep them for later, and give them with their documents."""
        answered: Counter[str] = Counter()
        without = 0
        self._connection.execute("BEGIN")
        for sample in samples:
            one, two = (self._answer(policy, sample) for policy in ("a", "b"))
            answered.update(policy for policy, found in (("a", one), ("b", two)) if found is not None)
            if one is None or two is None:
                self.counts["only a" if one is not None else "only b" if two is not None else "neither"] += 1
                continue
            self.counts["questions"] += 1
            references = _references(sample)
            without += not references
            language, dataset = (str(sample.metadata.get(name) or "") for name in ("language", "dataset"))
            before = _before(sample, one, two)
            duel = Duel(sample, one[-1], two[-1], references, language, dataset, before)
            about = json.dumps([duel.references, language, dataset, before])
            row = sample.id, sample.query, about, duel.a, duel.b, share_of("sheet", sample.id)
            self._connection.execute(
                "INSERT INTO duels (id, query, about, a, b, shuffled) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            yield duel
        self._connection.execute("COMMIT")
        if 0 < without < self.counts["questions"]:
            self.counts["of them without a reference"] = without
        query = "SELECT policy, COUNT(*) FROM answers GROUP BY policy ORDER BY policy"
        for policy, answers in self._connection.execute(query):
            if answers > answered[policy]:
                self.counts[f"answers of {policy} to no question of the data"] = answers - answered[policy]

    def _keep(self, policy: str, path: Path) -> None:
        self._connection.execute("BEGIN")
        empty = True
        for key, turns, where in read_answers(path):
            try:
                row = policy, storable(key), json.dumps([storable(turn) for turn in turns])
                self._connection.execute("INSERT INTO answers VALUES (?, ?, ?)", row)
            except sqlite3.IntegrityError:
                raise DataError(f"{where}: two answers to {key[:60]!r}") from None
            empty = False
        if empty:
            raise DataError(f"{path}: no answer in it")
        self._connection.execute("COMMIT")

    def _answer(self, policy: str, sample: Sample) -> list[str] | None:
        for key in (sample.id, sample.query):
            query = "SELECT turns FROM answers WHERE policy = ? AND key = ?"
            if (row := self._connection.execute(query, (policy, key)).fetchone()) is not None:
                turns: list[str] = json.loads(row[0])
                return turns
        return None

    def _read(self, order: str) -> Iterator[Duel]:
        query = f"SELECT id, query, about, a, b FROM duels ORDER BY {order}"  # noqa: S608
        for id_, asked, about, a, b in self._connection.execute(query):
            references, language, dataset, before = json.loads(about)
            turn = None if before is None else (before[0], before[1], before[2])
            yield Duel(Sample(id_, asked, ()), a, b, tuple(references), language, dataset, turn)


def _before(sample: Sample, a: Sequence[str], b: Sequence[str]) -> tuple[str, str, str] | None:
    """The turn before the last one of the user; see :class:`Duel`."""
    match [m.content for m in sample.messages or () if m.role == "user"]:
        case [*_, asked, _]:
            pass
        case _:
            return None
    given = [m.content for m in sample.messages or () if m.role == "assistant"]
    answers = [turns[-2] if len(turns) > 1 else given[-1] if given else None for turns in (a, b)]
    return None if answers[0] is None or answers[1] is None else (asked, answers[0], answers[1])


def _references(sample: Sample) -> tuple[str, ...]:
    """The reference, and others that the row's metadata has as ``answers`` (LongBench's)."""
    more = sample.metadata.get("answers")
    texts = [text for text in more if isinstance(text, str)] if isinstance(more, list) else []
    return tuple(dict.fromkeys([*([sample.reference] if sample.reference else []), *texts]))
