"""The source ``huggingface``: a dataset's rows, in the fields of :mod:`lrf.rows.data` or mapped to them by ``columns``.

Code that a dataset brings along is never run: the ``datasets`` versions that lrf asks for can't.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import fsspec

from lrf.errors import DataError
from lrf.rows.data import Row, samples_from_rows
from lrf.rows.lines import LONGEST_ROW, too_large
from lrf.rows.parquet_sizes import VALUE_BYTES
from lrf.types import BadRow, Sample
from lrf_data.columns import check_columns, mapped
from lrf_data.packed import check_file, check_packed
from lrf_data.parquet import rows_of
from lrf_data.settings import HuggingFaceSettings

_PARQUET_BATCH = 16
"""Rows of a Parquet file that are in memory at a time."""


class HuggingFaceSource:
    """Samples from a dataset on the Hub (streamed) or in a local folder (``save_to_disk`` folders included).

    Parquet files are read by lrf itself, also from the Hub: ``datasets`` has a row group in memory whatever it takes.
    A row's "line" is its number in the split, in Parquet that in its file, from 1. Only rows of a local folder may name
    text files.
    """

    def __init__(self, settings: HuggingFaceSettings) -> None:
        self._settings = settings
        local = Path(settings.path)
        self._folder = local if local.is_dir() else None
        self._where = f"{settings.path} ({settings.split})"

    def read(self) -> Iterator[Sample | BadRow]:
        return samples_from_rows(self._rows(), max_file_bytes=self._settings.max_file_bytes)

    def _rows(self) -> Iterator[Row | BadRow]:
        s = self._settings
        try:
            saved = self._saved()
            if saved is not None:
                yield from self._rows_of(saved)
                return
            self._check_files()
            builder = datasets.load_dataset_builder(s.path, s.name, revision=s.revision)
            files = builder.config.data_files or {}
            if builder.name == "parquet" and s.split in files:
                for url in files[s.split]:
                    with fsspec.open(url, "rb") as file:
                        yield from rows_of(file, url, self._folder, s.columns, _PARQUET_BATCH)
            else:
                self._check_remote(files.get(s.split, ()))
                yield from self._rows_of(builder.as_streaming_dataset(split=s.split))
        except DataError:
            raise
        except Exception as error:  # datasets lets through whatever its file readers and the network raise
            raise DataError(f"{self._where}: can't be read as a dataset: {type(error).__name__}: {error}") from error

    def _rows_of(self, dataset: Any) -> Iterator[Row | BadRow]:
        columns = self._settings.columns
        if columns is not None and dataset.column_names is not None:  # None: a stream that doesn't say
            check_columns(columns, dataset.column_names, self._where)
        for number, row in enumerate(dataset, start=1):
            value = row if columns is None else mapped(columns, row)
            size = size_of(value)
            fits = size <= LONGEST_ROW
            yield Row(self._where, number, value, self._folder) if fits else too_large(self._where, number, size)

    def _saved(self) -> Any:
        """The split of a folder that ``save_to_disk`` made; None for anything else."""
        s = self._settings
        if self._folder is None:
            return None
        if (self._folder / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(self._folder))
            if s.split not in splits:
                raise DataError(f"{s.path}: no split {s.split!r}; splits: {', '.join(splits)}")
            return splits[s.split]
        return datasets.load_from_disk(str(self._folder)) if (self._folder / "state.json").is_file() else None

    def _check_files(self) -> None:
        """Raise DataError for a small file that datasets would unpack to more than fits in memory."""
        for path in sorted(self._folder.rglob("*") if self._folder else ()):
            if path.is_file():
                check_packed(path)

    def _check_remote(self, urls: Sequence[str]) -> None:
        """Likewise for files on the Hub: packed ones are read once more for it."""
        for url in () if self._folder is not None else urls:
            with fsspec.open(url, "rb") as file:
                check_file(file, url)


def size_of(value: object) -> int:
    """Bytes of a row's texts, and a few for each value."""
    size, left = 0, [value]
    while left:
        one = left.pop()
        size += len(one) if isinstance(one, str | bytes) else VALUE_BYTES
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return size
