"""Rows of JSON lists, JSON Lines (plain or gzipped), Parquet and CSV files, a few in memory at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from lrf.errors import DataError
from lrf.rows.lines import LONGEST_ROW, Row, lines, parse_line, too_large
from lrf.rows.values import finite, refuse_constant
from lrf.types import JSON, BadRow

CHUNK = 1 << 20
"""Characters of a JSON list read at a time."""


def rows_of(paths: Path | Sequence[Path]) -> Iterator[Row | BadRow]:
    """The rows of all files in order. Raises :class:`lrf.errors.DataError` for a file that can't be read."""
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            yield from _rows(path)
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None


def objects_of(path: Path) -> Iterator[tuple[Mapping[str, JSON], str]]:
    """The object in each row of a file, and its place: "file:line". Raises :class:`lrf.errors.DataError` for others."""
    for row in rows_of(path):
        where = f"{row.file}:{row.line}"
        if isinstance(row, BadRow) or not isinstance(row.value, Mapping):
            raise DataError(f"{where}: {row.message if isinstance(row, BadRow) else 'expected an object'}")
        yield row.value, where


def _rows(path: Path) -> Iterator[Row | BadRow]:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name its files")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet":
        return _parquet(path)
    if suffix == ".csv":
        return _csv(path)
    with _text(path) as file:
        begins = next((c for c in iter(lambda: file.read(1), "") if not c.isspace() and c != "\ufeff"), "")
    return _array(path) if begins == "[" else _lines(path)


def _text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _lines(path: Path) -> Iterator[Row | BadRow]:
    with cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(lines(file, path), start=1):
            if not line.isspace():
                yield parse_line(line, str(path), number)


def _array(path: Path) -> Iterator[Row | BadRow]:
    """The elements of a JSON list, decoded one by one as the file is read. They are counted in place of lines."""
    decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite).raw_decode
    number, more = 0, CHUNK
    with _text(path) as file:
        text = file.read(CHUNK).lstrip()[1:]
        while True:
            text = text.lstrip(" \t\r\n,")
            if text.startswith("]"):
                return
            try:
                value, end = decode(text)
            except ValueError as error:
                if len(text) > LONGEST_ROW:
                    longest = f"{LONGEST_ROW:,} characters, the most that is read"
                    raise DataError(f"{path}: element {number + 1} of the list is longer than {longest}") from None
                if not (part := file.read(more)):
                    raise DataError(f"{path}: element {number + 1} of the list is not usable JSON: {error}") from None
                text, more = text + part, more * 2
                continue
            number, more, text = number + 1, CHUNK, text[end:]
            yield Row(str(path), number, value)
            if not text and not (text := file.read(CHUNK)):
                raise DataError(f"{path}: the list isn't closed after element {number}; the file may be cut short")


def _parquet(path: Path) -> Iterator[Row | BadRow]:
    import pyarrow
    import pyarrow.parquet

    from lrf.rows.parquet_sizes import BUFFER, bytes_of, check_groups

    number, name = 0, str(path)
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            large = check_groups(file.metadata, name, file.schema_arrow.names)
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER, read_dictionary=large) as file:
            for batch in file.iter_batches(batch_size=16):
                large_rows = sum(map(bytes_of, batch.columns)) > LONGEST_ROW
                for i in range(batch.num_rows):
                    number += 1
                    size = sum(bytes_of(column.slice(i, 1)) for column in batch.columns) if large_rows else 0
                    fits = size <= LONGEST_ROW
                    yield Row(name, number, batch.slice(i, 1).to_pylist()[0]) if fits else too_large(name, number, size)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: no Parquet file that can be read: {error}") from None


def _csv(path: Path) -> Iterator[Row | BadRow]:
    with _text(path) as file:
        reader = csv.reader(lines(file, path), strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if twice := next((name for name in header if header.count(name) > 1), None):
                raise DataError(f"{path}:1: the column {twice!r} is given twice")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    expected = f"expected {len(header)} columns, as in the first line; got {len(cells)}"
                    yield BadRow(str(path), reader.line_num, expected)
                else:
                    yield Row(str(path), reader.line_num, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: no valid CSV: {error}") from None
