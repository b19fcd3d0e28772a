"""``columns:``: what each field of a row is made of, where the data has columns of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lrf.errors import DataError
from lrf.rows.data import Row
from lrf.types import JSON, BadRow

Made = str | list[str]
"""A column's name, a text with ``<<column>>`` marks, or a list of these."""

_MARK = re.compile(r"<<([^<>]++)>>")


def columns_of(columns: Mapping[str, Made]) -> dict[str, str]:
    """The columns that are read, each with the first field that it is for."""
    names: dict[str, str] = {}
    for field, made in columns.items():
        for part in [made] if isinstance(made, str) else made:
            for name in _MARK.findall(part) or [part]:
                names.setdefault(name, field)
    return names


def check_columns(columns: Mapping[str, Made], there: Collection[str], where: str) -> None:
    """Raises :class:`lrf.errors.DataError` for a column that isn't there."""
    if problem := _missing(columns, there):
        raise DataError(f"{where}: {problem}")


def mapped(columns: Mapping[str, Made], record: Mapping[str, JSON]) -> dict[str, JSON]:
    """The fields of a row. Every column must be in the record.

    A list leaves out what is null, and takes the items of columns that hold lists.
    """
    return {field: _value(made, record) for field, made in columns.items()}


def mapped_rows(columns: Mapping[str, Made] | None, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The rows in the fields of lrf; a row that lacks a column becomes a bad one. As they are without ``columns``."""
    if columns is None:
        return rows
    return (
        row if isinstance(row, BadRow) or not isinstance(row.value, dict) else _mapped(columns, row) for row in rows
    )


def _mapped(columns: Mapping[str, Made], row: Row) -> Row | BadRow:
    if problem := _missing(columns, row.value):
        return BadRow(row.file, row.line, problem)
    return Row(row.file, row.line, mapped(columns, row.value), row.folder)


def _missing(columns: Mapping[str, Made], there: Collection[str]) -> str | None:
    for name, field in columns_of(columns).items():
        if name not in there:
            return f"no column {name!r} for {field}; columns: {', '.join(there)}"
    return None


def _value(made: Made, record: Mapping[str, JSON]) -> JSON:
    if isinstance(made, list):
        values: list[Any] = []
        for part in made:
            value = _value(part, record)
            values += value if isinstance(value, list) else [] if value is None else [value]
        return values
    if not _MARK.search(made):
        return record[made]
    return _MARK.sub(lambda mark: _text(record[mark[1]]), made)


def _text(value: JSON) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
