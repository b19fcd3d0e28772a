"""The source ``huggingface``: a dataset's rows, in the fields of :mod:`lrf.rows.data` or mapped to them by ``columns``.

Code that a dataset brings along is never run: the ``datasets`` versions that lrf asks for can't.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from lrf.errors import DataError
from lrf.rows.data import Row, samples_from_rows
from lrf.types import BadRow, Sample
from lrf_data.settings import HuggingFaceSettings


class HuggingFaceSource:
    """Samples from a dataset on the Hub (streamed) or in a local folder (``save_to_disk`` folders included).

    A row's "line" is its number in the split, from 1. Only rows of a local folder may name text files.
    """

    def __init__(self, settings: HuggingFaceSettings) -> None:
        self._settings = settings
        local = Path(settings.path)
        self._folder = local if local.is_dir() else None

    def read(self) -> Iterator[Sample | BadRow]:
        return samples_from_rows(self._rows())

    def _rows(self) -> Iterator[Row]:
        s = self._settings
        where = f"{s.path} ({s.split})"
        try:
            rows = self._load()
            if s.columns is not None:
                _check_columns(s.columns, rows.column_names, where)
            for number, row in enumerate(rows, start=1):
                value = row if s.columns is None else {field: row[column] for field, column in s.columns.items()}
                yield Row(where, number, value, self._folder)
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
        return datasets.load_dataset(s.path, s.name, split=s.split, revision=s.revision, streaming=True)


def _check_columns(columns: dict[str, str], there: list[str] | None, where: str) -> None:
    for field, column in columns.items():
        if there is not None and column not in there:  # None: a stream that doesn't say
            raise DataError(f"{where}: no column {column!r} for {field}; columns: {', '.join(there)}")
