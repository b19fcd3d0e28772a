"""The questions of a benchmark as they are asked: chosen by seed, without duplicates, as rows of data for a run."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lrf.errors import DataError
from lrf.evaluation.baselines import placed, share_of
from lrf.protocols import Benchmark, BenchmarkItem
from lrf.rows.data import turn_documents
from lrf.store.files import dump, replacing
from lrf.types import JSON, BadRow, Sample

SHOWN = 5


@dataclass(slots=True)
class Counts:
    """What was in the files.

    Parameters
    ----------
    questions: those that were used; ``not_chosen`` were left out by a limit.
    bad_rows: rows that are no question, left out; ``problems`` are the first of them, by file and line.
    same_id, same_text: questions whose id, or whose question and answers, came before. Those of the same id become
        ID#2, ID#3, …; those of the same id and text are left out as ``repeated``.
    groups: questions by group.
    """

    questions: int = 0
    not_chosen: int = 0
    bad_rows: int = 0
    problems: list[str] = field(default_factory=list)
    same_id: int = 0
    repeated: int = 0
    same_text: int = 0
    groups: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, JSON]:
        return {
            "questions": self.questions,
            "not_chosen": self.not_chosen,
            "bad_rows": self.bad_rows,
            "problems": self.problems,
            "duplicate_ids": self.same_id,
            "repeated_rows": self.repeated,
            "duplicate_texts": self.same_text,
            "groups": dict(self.groups),
        }


def chosen_questions(benchmark: Benchmark, counts: Counts, limit: int | None, seed: int) -> Iterator[BenchmarkItem]:
    """The questions in the file's order; with a limit those whose id has the smallest hash with the seed.

    Raises :class:`lrf.errors.DataError` when no row is a question.
    """
    most = _hash_limit(benchmark, limit, seed)
    texts: set[float] = set()
    for question in _distinct(benchmark, counts):
        sample = question.sample
        if share_of(str(seed), sample.id) > most:
            counts.not_chosen += 1
            continue
        text = _text_hash(question)
        counts.same_text += text in texts
        texts.add(text)
        counts.questions += 1
        counts.groups[question.group] += 1
        yield question
    if not counts.questions:
        why = "\n".join(counts.problems) or "the files have no rows, or none of those that the settings take"
        raise DataError(f"no question in the benchmark's files ({counts.bad_rows:,} bad rows):\n{why}")


def _distinct(benchmark: Benchmark, counts: Counts) -> Iterator[BenchmarkItem]:
    """The questions, each with an id of its own."""
    times: Counter[float] = Counter()  # by hash of the id
    texts: set[float] = set()
    for row in benchmark.read():
        if isinstance(row, BadRow):
            counts.bad_rows += 1
            if len(counts.problems) < SHOWN:
                counts.problems.append(f"{row.file}:{row.line}: {row.message}")
            continue
        name, text = share_of(row.sample.id), share_of(row.sample.id, str(_text_hash(row)))
        if text in texts:
            counts.repeated += 1
            continue
        texts.add(text)
        times[name] += 1
        if times[name] > 1:
            counts.same_id += 1
            yield replace(row, sample=replace(row.sample, id=numbered(row.sample.id, times[name])))
        else:
            yield row


def numbered(id: str, time: int) -> str:
    """The id of what has the id of an earlier one: the second is ID#2."""
    return id if time == 1 else f"{id}#{time}"


def _text_hash(question: BenchmarkItem) -> float:
    sample = question.sample
    return share_of(sample.query, *(d.text for d in sample.documents), *(c.text for c in sample.candidates))


def _hash_limit(benchmark: Benchmark, limit: int | None, seed: int) -> float:
    """The largest hash of the chosen questions."""
    if limit is None:
        return 1.0
    hashes = (share_of(str(seed), question.sample.id) for question in _distinct(benchmark, Counts()))
    return max(heapq.nsmallest(limit, hashes), default=1.0)


def write_rows(rows: Iterator[Mapping[str, JSON]], path: Path) -> None:
    """Write rows of data, a few in memory at a time."""
    with replacing(path) as file:
        for row in rows:
            file.write(dump(row) + "\n")


def prompt_row(sample: Sample) -> Mapping[str, JSON]:
    """The sample as a row of data for a policy to answer: its prompt as it is, without candidates."""
    row: dict[str, JSON] = {"id": sample.id, "query": sample.query}
    if sample.messages is not None:
        row["messages"] = [message.as_row() for message in sample.messages]
    if sample.messages is None or sample.documents != turn_documents(sample.messages):
        row["context"] = [{"id": d.id, "text": d.text, "title": d.title} for d in sample.documents]
    if sample.tools:
        row["tools"] = [dict(tool) for tool in sample.tools]
    return row


def question_row(question: BenchmarkItem, *, compare: bool) -> Mapping[str, JSON]:
    """The question as a row of data. To compare, its candidates are the two orders of the two answers."""
    sample = question.sample
    row: dict[str, JSON] = {"id": sample.id, "query": sample.query}
    if sample.documents:
        row["context"] = [{"id": d.id, "text": d.text, "title": d.title} for d in sample.documents]
    elif sample.messages:
        row["messages"] = [message.as_row() for message in sample.messages]
    else:  # the question is all there is
        row["messages"] = [{"role": "user", "content": sample.query}]
    if not compare:
        row["candidates"] = [{"id": c.id, "text": c.text} for c in placed(question)]
        return row
    one, two = sample.candidates
    orders = [
        {"id": name, "text": first.text, "metadata": {"first": first.text, "second": second.text}}
        for name, first, second in (("given", one, two), ("swapped", two, one))
    ]
    row["candidates"] = sorted(orders, key=lambda order: share_of(sample.id, question.group, str(order["id"])))
    return row
