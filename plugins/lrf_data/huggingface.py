"""The source ``huggingface``: a dataset's rows, in the fields of :mod:`lrf.rows.data` or mapped to them by ``columns``.

Code that a dataset brings along is never run: the ``datasets`` versions that lrf asks for can't.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets

from lrf.errors import DataError
from lrf.rows.data import Row, samples_from_rows
from lrf.types import BadRow, Sample
from lrf_data.columns import check_columns, mapped
from lrf_data.files import LONGEST_ROW, lines, reading, too_large
from lrf_data.parquet_sizes import VALUE_BYTES, check_whole_groups
from lrf_data.settings import HuggingFaceSettings

_UNPACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""What unpacks a file, by how its name ends."""


class HuggingFaceSource:
    """Samples from a dataset on the Hub (streamed) or in a local folder (``save_to_disk`` folders included).

    A row's "line" is its number in the split, from 1. Only rows of a local folder may name text files.
    """

    def __init__(self, settings: HuggingFaceSettings) -> None:
        self._settings = settings
        local = Path(settings.path)
        self._folder = local if local.is_dir() else None

    def read(self) -> Iterator[Sample | BadRow]:
        return samples_from_rows(self._rows(), max_file_bytes=self._settings.max_file_bytes)

    def _rows(self) -> Iterator[Row | BadRow]:
        s = self._settings
        where = f"{s.path} ({s.split})"
        try:
            rows = self._load()
            if s.columns is not None and rows.column_names is not None:  # None: a stream that doesn't say
                check_columns(s.columns, rows.column_names, where)
            for number, row in enumerate(rows, start=1):
                value = row if s.columns is None else mapped(s.columns, row)
                size = size_of(value)
                fits = size <= LONGEST_ROW
                yield Row(where, number, value, self._folder) if fits else too_large(where, number, size)
        except DataError:
            raise
        except Exception as error:  # datasets lets through whatever its file readers and the network raise
            raise DataError(f"{where}: can't be read as a dataset: {type(error).__name__}: {error}") from error

    def _load(self) -> Any:
        s = self._settings
        if self._folder is not None and (self._folder / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(self._folder))
            if s.split not in splits:
                raise DataError(f"{s.path}: no split {s.split!r}; splits: {', '.join(splits)}")
            return splits[s.split]
        if self._folder is not None and (self._folder / "state.json").is_file():
            return datasets.load_from_disk(str(self._folder))
        if self._folder is not None:
            _check_files(self._folder)
        return datasets.load_dataset(s.path, s.name, split=s.split, revision=s.revision, streaming=True)


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


def _check_files(folder: Path) -> None:
    """Raise DataError for a small file that datasets would unpack to more than fits in memory."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet" and path.is_file():
            check_whole_groups(path)
        elif path.suffix in _UNPACKED and path.is_file():
            with reading(path), _UNPACKED[path.suffix](path, "rb") as file:
                for _ in lines(file, path):
                    pass
