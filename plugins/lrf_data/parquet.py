"""The source ``parquet``: a row for each record, in the fields of :mod:`lrf.rows.data`; columns may be nested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lrf.errors import DataError
from lrf.rows.data import Row, samples_from_rows
from lrf.rows.lines import LONGEST_ROW, too_large
from lrf.rows.parquet_sizes import BUFFER, bytes_of, check_groups
from lrf.types import BadRow, Sample
from lrf_data.columns import Made, check_columns, columns_of, mapped
from lrf_data.files import find_files
from lrf_data.settings import ParquetSettings


class ParquetSource:
    """Samples from Parquet files, a small batch of rows at a time; a row group is the most that is in memory.

    A row's "line" is its number, from 1.
    """

    def __init__(self, settings: ParquetSettings) -> None:
        self._path = settings.path
        self._max_file_bytes = settings.max_file_bytes
        self._columns = settings.columns
        self._batch_rows = settings.batch_rows

    def read(self) -> Iterator[Sample | BadRow]:
        files = find_files(self._path)
        rows = (row for file in files for row in self._rows(file))
        return samples_from_rows(rows, max_file_bytes=self._max_file_bytes)

    def _rows(self, path: Path) -> Iterator[Row | BadRow]:
        try:
            yield from rows_of(path, str(path), path.parent, self._columns, self._batch_rows)
        except (OSError, pa.ArrowException) as error:
            hint = "; JSON Lines are read by the source jsonl (`type: jsonl`)" if _begins_as_json(path) else ""
            raise DataError(f"{path}: can't be read as Parquet: {error}{hint}") from error


def rows_of(
    file: Path | BinaryIO, name: str, folder: Path | None, columns: Mapping[str, Made] | None, batch_rows: int
) -> Iterator[Row | BadRow]:
    """The rows of a Parquet file, ``batch_rows`` in memory at a time.

    Parameters
    ----------
    file: a path, or a file that can be sought in.
    name: what rows and errors call the file.
    folder: where text files are that rows name; None where they may not.

    Raises :class:`lrf.errors.DataError` for a missing column, or a row group that takes too much memory.
    """
    metadata, there = _described(file)
    made = {column: column for column in there} if columns is None else columns
    check_columns(made, there, name)
    read = sorted(columns_of(made))
    large = check_groups(metadata, name, read)
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER, read_dictionary=large) as table:
        number = 0
        for batch in table.iter_batches(batch_rows, columns=read):
            large_rows = sum(map(bytes_of, batch.columns)) > LONGEST_ROW
            for i in range(batch.num_rows):
                number += 1
                size = sum(bytes_of(column.slice(i, 1)) for column in batch.columns) if large_rows else 0
                fits = size <= LONGEST_ROW
                yield _row(batch, i, made, Place(name, number, folder)) if fits else too_large(name, number, size)


class Place(NamedTuple):
    """Where a row is: the file's name, its number from 1, and the folder of files that it may name."""

    file: str
    number: int
    folder: Path | None


def _described(file: Path | BinaryIO) -> tuple[Any, list[str]]:
    """The file's metadata, and the names of its columns."""
    with pq.ParquetFile(file, pre_buffer=False) as table:
        return table.metadata, table.schema_arrow.names


def _begins_as_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in (b"{", b"[")


def _row(batch: Any, i: int, columns: Mapping[str, Made], place: Place) -> Row | BadRow:
    try:
        record = {name: batch.column(name)[i].as_py() for name in batch.schema.names}
    except (ValueError, pa.ArrowException) as error:  # text that isn't UTF-8, a time out of range
        return BadRow(place.file, place.number, f"can't be read: {error}")
    return Row(place.file, place.number, mapped(columns, record), place.folder)
