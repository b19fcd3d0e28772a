"""The source ``parquet``: a row for each record, in the fields of :mod:`lrf.rows.data`; columns may be nested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lrf.errors import DataError
from lrf.rows.data import Row, samples_from_rows
from lrf.types import BadRow, Sample
from lrf_data.files import find_files
from lrf_data.settings import ParquetSettings

LARGEST_GROUP = 1 << 33
"""Bytes of a row group at most, unpacked."""

_BUFFER = 1 << 20  # bytes read at once; without it a row group's column is read whole


class ParquetSource:
    """Samples from Parquet files, a small batch of rows at a time; a row group is the most that is in memory.

    A row's "line" is its number, from 1.
    """

    def __init__(self, settings: ParquetSettings) -> None:
        self._path = settings.path
        self._columns = settings.columns
        self._batch_rows = settings.batch_rows

    def read(self) -> Iterator[Sample | BadRow]:
        files = find_files(self._path)
        return samples_from_rows(row for file in files for row in self._rows(file))

    def _rows(self, path: Path) -> Iterator[Row | BadRow]:
        try:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
                columns = self._column_of_field(file.schema_arrow.names, path)
                _check_sizes(file.metadata, path)
                number = 0
                for batch in file.iter_batches(self._batch_rows, columns=sorted({*columns.values()})):
                    for i in range(batch.num_rows):
                        number += 1
                        yield _row(batch, i, columns, path, number)
        except (OSError, pa.ArrowException) as error:
            hint = "; JSON Lines are read by the source jsonl (`type: jsonl`)" if _begins_as_json(path) else ""
            raise DataError(f"{path}: can't be read as Parquet: {error}{hint}") from error

    def _column_of_field(self, there: list[str], path: Path) -> Mapping[str, str]:
        if self._columns is None:
            return {name: name for name in there}
        for field, column in self._columns.items():
            if column not in there:
                raise DataError(f"{path}: no column {column!r} for {field}; columns: {', '.join(there)}")
        return self._columns


def _check_sizes(metadata: Any, path: Path) -> None:
    """Raises DataError for a row group whose columns, unpacked, would take more than :data:`LARGEST_GROUP` bytes."""
    for number in range(metadata.num_row_groups):
        size = metadata.row_group(number).total_byte_size
        if size > LARGEST_GROUP:
            raise DataError(
                f"{path}: row group {number} takes {size:,} bytes unpacked; {LARGEST_GROUP:,} are the most that are "
                "read; write the file with smaller row groups"
            )


def _begins_as_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in (b"{", b"[")


def _row(batch: Any, i: int, columns: Mapping[str, str], path: Path, number: int) -> Row | BadRow:
    try:
        value = {field: batch.column(column)[i].as_py() for field, column in columns.items()}
    except (ValueError, pa.ArrowException) as error:  # text that isn't UTF-8, a time out of range
        return BadRow(str(path), number, f"can't be read: {error}")
    return Row(str(path), number, value, path.parent)
