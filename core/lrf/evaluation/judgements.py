"""Judgements of a benchmark's questions: of a run's rewards, or as they were recorded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.evaluation.questions import numbered
from lrf.protocols import Benchmark, BenchmarkItem, Judged, Recorded
from lrf.protocols.evaluation import Decision, Spans
from lrf.rows.formats import rows_of
from lrf.stages.score.rows import judgement_rows
from lrf.types import BadRow, Judgement

REWARD = "reward"

Say = Callable[[BenchmarkItem], Judged]
"""What a judge says about a question."""

Scores = dict[str, dict[str, dict[str, float]]]
"""By judge ("reward", "only DIMENSION", "without DIMENSION"), question and candidate."""


def read_rewards(path: Path) -> Scores:
    """Scores in rows of sample_id, candidate_id, reward and perhaps ratings: a run's rewards, or others'.

    "only X" is the rating of dimension X; "without X" the mean of the others, where there are three or more. A reward
    of null is left out. Raises :class:`lrf.errors.DataError` for a row that is none, with its line.
    """
    scores: Scores = {REWARD: {}}
    for row in rows_of(path):
        if isinstance(row, BadRow):
            raise DataError(f"{row.file}:{row.line}: {row.message}")
        value = row.value if isinstance(row.value, Mapping) else {}
        if not {"sample_id", "candidate_id", "reward"} <= set(value):
            raise DataError(f"{row.file}:{row.line}: expected the fields sample_id, candidate_id and reward")
        sample, candidate = str(value["sample_id"]), str(value["candidate_id"])
        for name, score in _named(value, f"{row.file}:{row.line}"):
            of_sample = scores.setdefault(name, {}).setdefault(sample, {})
            if candidate in of_sample:
                raise DataError(f"{row.file}:{row.line}: candidate {candidate!r} of {sample!r} has two rewards")
            of_sample[candidate] = score
    return scores


def _named(row: Mapping[str, Any], where: str) -> Iterator[tuple[str, float]]:
    if (reward := _number(row["reward"], where)) is not None:
        yield REWARD, reward
    ratings = row.get("ratings")
    if not isinstance(ratings, Mapping) or len(ratings) < 2:
        return
    numbers = {str(name): _number(value, where) for name, value in ratings.items()}
    for name, rating in numbers.items():
        others = [r for other, r in numbers.items() if other != name]
        if rating is not None:
            yield f"only {name}", rating
        if len(others) > 1 and None not in others:
            yield f"without {name}", sum(r for r in others if r is not None) / len(others)


def _number(value: Any, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: expected a finite number as reward; got {str(value)[:40]!r}")
    return number


def judged_by(scores: Mapping[str, Mapping[str, float]], question: BenchmarkItem) -> Judged:
    """What these scores say about the question; of a comparison the decisions in both orders."""
    sample = question.sample
    given = scores.get(sample.id, {})
    if "given" in given or "swapped" in given:
        decisions = (decision_of(given.get("given"), "1", "2"), decision_of(given.get("swapped"), "2", "1"))
        return Judged(sample.id, question.label, question.group, decisions=decisions)
    return Judged(sample.id, question.label, question.group, tuple(given.get(c.id) for c in sample.candidates))


def decision_of(rating: float | None, first: Decision, second: Decision) -> Decision:
    """The decision that a rating from 0 (second) to 10 (first) stands for."""
    if rating is None:
        return None
    return "tie" if rating == 5 else first if rating > 5 else second


def says(scores: Scores) -> dict[str, Say]:
    """The judges in a file of rewards, by name."""
    return {name: partial(judged_by, of_judge) for name, of_judge in scores.items()}


def wrong_spans(path: Path) -> dict[str, Spans]:
    """Of each question in a run's ``judgements.jsonl`` the spans of its answer that the judge finds unsupported.

    They are the sentences with a support below 0.5, of dimensions that judge an answer's sentences as they stand there
    (``faithfulness`` with ``statements: sentences``). Questions without such sentences are left out.
    """
    spans: dict[str, Spans] = {}
    for sample, _, judgements in judgement_rows(path):
        judged = [j for j in judgements.values() if isinstance(j, Judgement)]
        sentences = [s for j in judged for s in j.statements if s.in_answer is not None]
        if sentences:
            spans[sample] = tuple(s.in_answer for s in sentences if s.in_answer is not None and s.support < 0.5)
    return spans


def pointing(say: Say, spans: Mapping[str, Spans]) -> Say:
    """The judge, with the spans that it finds wrong."""
    return lambda question: replace(say(question), spans=spans.get(question.sample.id))


def read_recorded(benchmark: Benchmark, path: Path) -> dict[str, Say]:
    """The judges in a file, by name: rewards in lrf's layout, or the authors' own recorded outputs ("recorded")."""
    first = next(iter(rows_of(path)), None)
    value = first.value if first is not None and not isinstance(first, BadRow) else None
    if isinstance(value, Mapping) and {"sample_id", "reward"} <= set(value):
        return says(read_rewards(path))
    recorded: dict[str, Recorded] = {}
    times: Counter[str] = Counter()
    for one in benchmark.recorded(path):
        times[one.id] += 1
        recorded[numbered(one.id, times[one.id])] = one
    if not recorded:
        raise DataError(f"{path}: no judgement in it")
    return {"recorded": partial(judged_as_recorded, recorded)}


def judged_as_recorded(recorded: Mapping[str, Recorded], question: BenchmarkItem) -> Judged:
    """What was recorded about the question; nothing where it is missing."""
    one = recorded.get(question.sample.id)
    if one is None and next(iter(recorded.values())).decisions:
        return Judged(question.sample.id, question.label, question.group, decisions=(None, None))
    if one is None:
        return Judged(question.sample.id, question.label, question.group, (None,) * len(question.sample.candidates))
    return Judged(question.sample.id, question.label, question.group, one.scores, one.decisions, one.spans)


def has_judgement(judged: Judged) -> bool:
    """Whether every part of the judgement is there."""
    parts: Sequence[object] = judged.decisions or judged.scores
    return bool(parts) and None not in parts
