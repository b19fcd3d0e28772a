"""Rewards and judgements as rows of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lrf.errors import RunError
from lrf.rows.data import Row, parse_line
from lrf.store.files import dump
from lrf.types import JSON, BadRow, JudgedStatement, Judgement, Reward, Span, Unscored, Vote

_SCORE_AGAIN = "remove the file and run `lrf run`: replies come from the journal and cost nothing"


def reward_row(reward: Reward) -> Mapping[str, JSON]:
    """A row of ``rewards.jsonl``."""
    return {
        "sample_id": reward.sample_id,
        "candidate_id": reward.candidate_id,
        "reward": reward.reward,
        "ratings": dict(reward.ratings),
        "unscored": _unscored(reward.unscored) if reward.unscored else None,
    }


def judgement_row(reward: Reward) -> Mapping[str, JSON]:
    """A row of ``judgements.jsonl``: what each dimension's rating rests on."""
    return {
        "sample_id": reward.sample_id,
        "candidate_id": reward.candidate_id,
        "judgements": {
            name: {"unscored": _unscored(j)} if isinstance(j, Unscored) else judgement_json(j)
            for name, j in reward.judgements.items()
        },
    }


def judgement_json(judgement: Judgement) -> Mapping[str, JSON]:
    """One dimension's part of a row of ``judgements.jsonl``, without empty optional parts."""
    row: dict[str, JSON] = {
        "rating": judgement.rating,
        "reply_mode": judgement.reply_mode,
        "analysis": judgement.analysis,
    }
    if judgement.spread is not None:
        row["spread"] = judgement.spread
    if judgement.votes:
        row["votes"] = [_vote(o) for o in judgement.votes]
    if judgement.seen:
        row["seen"] = dict(judgement.seen)
    if judgement.statements:
        row["statements"] = [_statement(s) for s in judgement.statements]
    if judgement.notes:
        row["notes"] = [{**_span(n.span), "text": n.text} for n in judgement.notes]
    if judgement.extra:
        row["extra"] = dict(judgement.extra)
    return row


def reward_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a ``rewards.jsonl``. Raises :class:`lrf.errors.RunError` for a line that isn't such a row."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            parsed = _stored_line(line, path, number)
            match parsed:
                case Row(value={"sample_id": str(), "candidate_id": str(), "reward": reward, "ratings": dict(ratings),
                         "unscored": None | {"dimension": str(), "reason": str(), "detail": str()}} as row) if all(
                    r is None or type(r) in (int, float) for r in (reward, *ratings.values())
                ):  # fmt: skip
                    yield row
                case _:
                    why = parsed.message if isinstance(parsed, BadRow) else "no row of rewards"
                    raise RunError(f"{path}:{number}: {why}; {_SCORE_AGAIN}")


def judgement_rows(path: Path) -> Iterator[tuple[str, str, Mapping[str, Judgement | Unscored]]]:
    """(sample's id, candidate's id, judgements by dimension) of each row of a ``judgements.jsonl``.

    Raises :class:`lrf.errors.RunError` for a line that isn't such a row.
    """
    with path.open("rb") as file:
        yield from _judgements(file, path)


def judgement_rows_at(path: Path, place: int, length: int) -> list[tuple[str, str, Mapping[str, Judgement | Unscored]]]:
    """Sample, candidate and judgements of ``length`` bytes of a ``judgements.jsonl`` from byte ``place`` on.

    Both are at ends of rows.

    Raises as :func:`judgement_rows` does.
    """
    with path.open("rb") as file:
        file.seek(place)
        return list(_judgements(BytesIO(file.read(length)), path))


def _judgements(lines: Iterable[bytes], path: Path) -> Iterator[tuple[str, str, Mapping[str, Judgement | Unscored]]]:
    for number, line in enumerate(lines, start=1):
        parsed = _stored_line(line, path, number)
        try:
            match parsed:
                case Row(value={"sample_id": str(sample), "candidate_id": str(candidate), "judgements": dict(row)}):
                    yield sample, candidate, {name: judgement_of(value) for name, value in row.items()}
                    continue
                case _:
                    why = parsed.message if isinstance(parsed, BadRow) else "no row of judgements"
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = f"no row of judgements: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise RunError(f"{path}:{number}: {why}; {_SCORE_AGAIN}")


def _stored_line(line: bytes, path: Path, number: int) -> Row | BadRow:
    """A line of a run's file. If lrf didn't write it, characters that can't be stored are replaced."""
    parsed = parse_line(line, str(path), number)
    if isinstance(parsed, Row) and not parsed.checked:
        return replace(parsed, value=json.loads(dump(parsed.value)))
    return parsed


def judgement_of(row: Mapping[str, JSON]) -> Judgement | Unscored:
    """The judgement that :func:`judgement_json` wrote as this row. Raises pydantic's ``ValidationError``."""
    if "unscored" in row:
        unscored: Unscored = _adapter(Unscored).validate_python(row["unscored"])
        return unscored
    notes = [{"span": {k: v for k, v in note.items() if k != "text"}, **note} for note in row.get("notes", ())]
    judgement: Judgement = _adapter(Judgement).validate_python({**row, "notes": notes})
    return judgement


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def rewards_of(rows: Iterable[Mapping[str, JSON]]) -> list[Reward]:
    """The rewards in rows of ``rewards.jsonl``; their judgements are in another file, so they have none."""
    return [
        Reward(
            r["sample_id"],
            r["candidate_id"],
            r["reward"],
            r["ratings"],
            Unscored(u["dimension"], u["reason"], u["detail"]) if (u := r["unscored"]) else None,
        )
        for r in rows
    ]


def _statement(statement: JudgedStatement) -> Mapping[str, JSON]:
    row: dict[str, JSON] = {
        "text": statement.text,
        "verdict": statement.verdict,
        "support": statement.support,
        "evidence": [_span(e) for e in statement.evidence],
        "analysis": statement.analysis,
    }
    if statement.probabilities:
        row["probabilities"] = dict(statement.probabilities)
    if statement.votes:
        row["votes"] = [_vote(o) for o in statement.votes]
    if statement.quotations:
        row["quotations"] = [
            {"text": q.text, "score": q.score, "span": None if q.span is None else _span(q.span)}
            for q in statement.quotations
        ]
    if statement.attribution:
        row["attribution"] = statement.attribution
    if statement.in_answer:
        row["in_answer"] = list(statement.in_answer)
    if statement.first:
        row["first"] = _statement(statement.first)
    return row


def _vote(vote: Vote) -> Mapping[str, JSON]:
    row = {"judge": vote.judge, "repeat": vote.repeat, "value": vote.value, "reply_mode": vote.reply_mode}
    return {**row, "probabilities": dict(vote.probabilities)} if vote.probabilities else row


def _span(span: Span) -> Mapping[str, JSON]:
    return {"document": span.document, "start": span.start, "end": span.end}


def _unscored(unscored: Unscored) -> Mapping[str, JSON]:
    return {"dimension": unscored.dimension, "reason": unscored.reason, "detail": unscored.detail}
