"""Typed access to the fields of a benchmark's rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lrf.errors import DataError
from lrf.protocols import BenchmarkItem, Recorded
from lrf.rows.data import Row, quoted, text_problem
from lrf.types import JSON, BadRow, Candidate, Document, Sample

T = TypeVar("T")


class RewardsOnly:
    """A benchmark whose authors publish no layout of recorded judgements."""

    def recorded(self, path: Path) -> Iterator[Recorded]:
        """Raises :class:`lrf.errors.DataError`, which says what is read instead."""
        raise DataError(f"{path}: give rows of sample_id, candidate_id and reward")


class FieldError(ValueError):
    """A field of a row that isn't there or isn't what it must be. The message names it."""


def questions(rows: Iterable[Row | BadRow], make: Callable[[Mapping[str, Any], int], T | None]) -> Iterator[T | BadRow]:
    """What ``make`` makes of each row's object and its number, from 0; None is left out.

    A row that it refuses comes as a BadRow.
    """
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            if not isinstance(row.value, Mapping):
                raise FieldError(f"expected an object; got {quoted(str(row.value)[:60])}")
            made = make(row.value, number)
        except FieldError as error:
            yield BadRow(row.file, row.line, str(error))
            continue
        if made is not None:
            yield made


def text_of(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """The text in a field. Raises :class:`FieldError`."""
    return checked(given(row, name), name, empty=empty)


def given(row: Mapping[str, Any], name: str, expected: str = "") -> JSON:
    """The value of a field, which is there and not null. Raises :class:`FieldError`, with what was expected."""
    if (value := row.get(name)) is None:
        have = ", ".join(list(map(str, row))[:12]) or "none"
        raise FieldError(f"{name}: {'null' if name in row else 'missing'}{expected}; the row's fields are {have}")
    return value


def id_of(row: Mapping[str, Any], number: int) -> str:
    """The row's id, or its number where it has none."""
    return str(number if row.get("id") in (None, "") else row["id"])


def checked(value: JSON, name: str, *, empty: bool = False) -> str:
    """The value, if it is a usable text. Raises :class:`FieldError`."""
    if not isinstance(value, str):
        raise FieldError(f"{name}: expected a text; got {quoted(str(value)[:60])}")
    if (problem := text_problem(value)) is not None:
        raise FieldError(f"{name}: {problem}")
    if not empty and not value.strip():
        raise FieldError(f"{name}: empty")
    return value


def texts_of(row: Mapping[str, Any], name: str, fewest: int = 1) -> list[str]:
    """The texts in a list. Raises :class:`FieldError`."""
    value = given(row, name)
    if not isinstance(value, list) or len(value) < fewest:
        raise FieldError(f"{name}: expected a list of at least {fewest} texts")
    return [checked(text, f"{name}[{i}]", empty=True) for i, text in enumerate(value)]


def one_of(row: Mapping[str, Any], name: str, allowed: Mapping[Any, T]) -> T:
    """What the field's value stands for. Raises :class:`FieldError` with what is allowed."""
    expected = f"expected one of {', '.join(map(repr, allowed))}"
    value = row.get(name) if None in allowed else given(row, name, f", {expected}")
    try:
        return allowed[value]
    except (KeyError, TypeError):
        raise FieldError(f"{name}: {expected}; got {quoted(str(value)[:60])}") from None


def number_of(row: Mapping[str, Any], name: str) -> float:
    """The finite number in a field, which may be written as text. Raises :class:`FieldError`."""
    value = given(row, name)
    try:
        number = float("nan" if isinstance(value, bool) or "_" in str(value) else value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise FieldError(f"{name}: expected a finite number; got {quoted(str(value)[:60])}")
    return number


def question(
    id: str, query: str, answers: Sequence[str], label: JSON, group: str = "", documents: Sequence[str] = ()
) -> BenchmarkItem:
    """A question whose candidates have their place in the file as id."""
    texts = tuple(Document(str(i), text) for i, text in enumerate(documents))
    return BenchmarkItem(
        Sample(id, query, texts, tuple(Candidate(str(i), a) for i, a in enumerate(answers))), label, group
    )


def percent(shares: Sequence[float]) -> float | None:
    """The mean in per cent; None of nothing."""
    return sum(shares) / len(shares) * 100 if shares else None


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of figures, None if one of them is None or there are none."""
    figures = list(values)
    return None if not figures or None in figures else sum(f for f in figures if f is not None) / len(figures)
