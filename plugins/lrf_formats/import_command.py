"""``lrf import``: rows of another tool's file as rows of data."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lrf.errors import ConfigError, DataError
from lrf.rows.data import RowError, sample_from_row
from lrf.rows.lines import parse_line
from lrf.types import BadRow
from lrf_formats.recognised import FORMS, recognise
from lrf_formats.writing import output

Row = Mapping[str, Any]


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMS, "columns"]),
    default=None,
    help="The file's form; left out: as its first row's fields say.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="For --format columns: query=COLUMN, context=COLUMN, reference=COLUMN, candidates=COLUMN "
    "(repeatable: a column for each answer).",
)
@click.option("--output", "-o", "path", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="The file of rows of data (JSON Lines).")  # fmt: skip
def import_rows(file: Path, format_: str | None, columns: tuple[str, ...], path: Path) -> int:
    """Turn FILE (JSON Lines, plain or gzipped; JSON; CSV; Parquet) into rows of data for `data: {type: jsonl}`.

    Forms: ultrafeedback, distilabel, longbench, llama_factory, ms_swift, kto, helpsteer, pairs (TRL, OpenRLHF,
    RewardBench); or columns, for anything else. Where a form has no document, the prompt is the context. Each row
    becomes one row, or is listed with the reason beside the output.
    """
    named = _columns(columns)
    if columns and format_ is None:
        format_ = "columns"
    number = 0
    with output(path) as out:
        for number, row in enumerate(_rows(file), start=1):
            if isinstance(row, BadRow):
                out.leave_out(str(number), row.message)
                continue
            format_ = format_ or _recognised(row, file)
            try:
                data = _by_columns(row, named, file) if format_ == "columns" else FORMS[format_].made(row)
                data = {"id": str(row.get("id") or row.get("_id") or number - 1), **data}
                sample_from_row(data, folder=None, file=str(file), line=number)
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                out.leave_out(str(number), f"not a row of {format_}: {type(error).__name__}: {error}")
            except RowError as error:
                out.leave_out(str(number), error.message)
            else:
                out.add(data)
    listed = f"; {out.left_out} left out: {path.name}.left_out.jsonl says why" if out.left_out else ""
    click.echo(f"{path}: {out.rows} rows of {number}, read as {format_}{listed}")
    return 0


def _recognised(row: Row, file: Path) -> str:
    """The form of the first row. Raises :class:`lrf.errors.DataError`."""
    form = recognise(row)
    if form is None:
        raise DataError(
            f"{file}: no form that lrf knows has the fields {', '.join(map(str, row))}; name the columns: "
            "--column query=… --column context=… --column candidates=…"
        )
    click.echo(f"{file}: read as {form} (fields {', '.join(map(str, row))}); --format names another form", err=True)
    return form


def _columns(given: tuple[str, ...]) -> Mapping[str, list[str]]:
    columns: dict[str, list[str]] = defaultdict(list)
    for one in given:
        field, equals, column = one.partition("=")
        if not equals or field not in ("query", "context", "reference", "candidates"):
            raise ConfigError(f"--column {one}: expected FIELD=COLUMN; fields: query, context, reference, candidates")
        columns[field].append(column)
    return columns


def _by_columns(row: Row, columns: Mapping[str, list[str]], file: Path) -> dict[str, Any]:
    """A row of data by the columns that were named. A column of answers may hold one text or a list of texts."""
    for column in (column for named in columns.values() for column in named):
        if column not in row:
            raise DataError(f"{file}: no column {column!r}; there are: {', '.join(map(str, row))}")
    answers: list[Any] = []
    for column in columns.get("candidates", ()):
        value = row[column]
        answers += value if isinstance(value, list) else [value]
    data = {field: row[columns[field][0]] for field in ("query", "context", "reference") if columns.get(field)}
    return {**data, "candidates": [{"text": a} if isinstance(a, str) else a for a in answers if a is not None]}


def _rows(file: Path) -> Iterator[Row | BadRow]:
    """The file's rows, one after another."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches(256):
            yield from batch.to_pylist()
    elif file.suffix == ".csv":
        csv.field_size_limit(1 << 30)
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from csv.DictReader(text)
    elif file.suffix == ".json":
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
        yield from rows if isinstance(rows, list) else [rows]
    else:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                row = parse_line(line, str(file), number)
                no_object = BadRow(str(file), number, "expected an object")
                yield row if isinstance(row, BadRow) else row.value if isinstance(row.value, Mapping) else no_object
