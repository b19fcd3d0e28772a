"""The source ``jsonl``: one row a line, in the fields of :mod:`lrf.rows.data`."""

from __future__ import annotations

from collections.abc import Iterator

from lrf.rows.data import samples_from_rows
from lrf.types import BadRow, Sample
from lrf_data.files import find_files, read_jsonl
from lrf_data.settings import JsonlSettings


class JsonlSource:
    """Samples from JSON Lines files, a line in memory at a time."""

    def __init__(self, settings: JsonlSettings) -> None:
        self._path = settings.path

    def read(self) -> Iterator[Sample | BadRow]:
        files = find_files(self._path)
        return samples_from_rows(row for file in files for row in read_jsonl(file))
