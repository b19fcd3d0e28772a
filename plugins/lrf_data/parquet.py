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
from lrf_data.columns import Made, check_columns, columns_of, mapped
from lrf_data.files import LONGEST_ROW, find_files, too_large
from lrf_data.parquet_sizes import BUFFER, bytes_of, check_groups
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
            metadata, there = _described(path)
            columns = {name: name for name in there} if self._columns is None else self._columns
            check_columns(columns, there, str(path))
            read = sorted(columns_of(columns))
            large = check_groups(metadata, path, read)
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER, read_dictionary=large) as file:
                number = 0
                for batch in file.iter_batches(self._batch_rows, columns=read):
                    large_rows = sum(map(bytes_of, batch.columns)) > LONGEST_ROW
                    for i in range(batch.num_rows):
                        number += 1
                        size = sum(bytes_of(column.slice(i, 1)) for column in batch.columns) if large_rows else 0
                        fits = size <= LONGEST_ROW
                        yield _row(batch, i, columns, path, number) if fits else too_large(str(path), number, size)
        except (OSError, pa.ArrowException) as error:
            hint = "; JSON Lines are read by the source jsonl (`type: jsonl`)" if _begins_as_json(path) else ""
            raise DataError(f"{path}: can't be read as Parquet: {error}{hint}") from error


def _described(path: Path) -> tuple[Any, list[str]]:
    """The file's metadata, and the names of its columns."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.metadata, file.schema_arrow.names


def _begins_as_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in (b"{", b"[")


def _row(batch: Any, i: int, columns: Mapping[str, Made], path: Path, number: int) -> Row | BadRow:
    try:
        record = {name: batch.column(name)[i].as_py() for name in batch.schema.names}
    except (ValueError, pa.ArrowException) as error:  # text that isn't UTF-8, a time out of range
        return BadRow(str(path), number, f"can't be read: {error}")
    return Row(str(path), number, mapped(columns, record), path.parent)
