"""The source ``jsonl``: a row on each line, in the fields of :mod:`lrf.rows.data` or mapped to them by ``columns``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from lrf.rows.data import Row, parse_line, samples_from_rows
from lrf.rows.lines import LONGEST_ROW, lines
from lrf.types import BadRow, Sample
from lrf_data.columns import mapped_rows
from lrf_data.files import find_files, read_jsonl, reading
from lrf_data.settings import JsonlSettings

CHUNK = 1 << 20
MAY_NAME_FILES = (b'"path"', b"\\u006", b"\\u007")
"""The key, and escapes that may stand for its letters."""
LONGEST = max(map(len, MAY_NAME_FILES)) - 1


class JsonlSource:
    """Samples from JSON Lines files, a line in memory at a time."""

    def __init__(self, settings: JsonlSettings) -> None:
        self._path = settings.path
        self._max_file_bytes = settings.max_file_bytes
        self._columns = settings.columns

    def read(self) -> Iterator[Sample | BadRow]:
        files = find_files(self._path)
        rows = (row for file in files for row in read_jsonl(file))
        return samples_from_rows(mapped_rows(self._columns, rows), max_file_bytes=self._max_file_bytes)

    def spread(self, count: int) -> Iterator[Sample] | None:
        """The samples of lines at places that are equally many bytes apart; None for packed files."""
        files = find_files(self._path)
        if any(path.suffix == ".gz" for path in files):
            return None
        rows = mapped_rows(self._columns, _lines_at(files, count))
        samples = samples_from_rows(rows, max_file_bytes=self._max_file_bytes)
        return (row for row in samples if isinstance(row, Sample))

    def content_hash(self) -> str | None:
        """A hash of the files; None where a row may name another file (its key ``path``, however it is written)."""
        content = hashlib.sha256()
        for path in find_files(self._path):
            if path.suffix == ".gz":
                return None
            content.update(b"%d" % path.stat().st_size)
            with reading(path), path.open("rb") as file:
                before = b""
                while part := file.read(CHUNK):
                    content.update(part)
                    window = before[-LONGEST:] + part
                    if any(mark in window for mark in MAY_NAME_FILES):
                        return None
                    before = part
        return content.hexdigest()


def _lines_at(files: Sequence[Path], count: int) -> Iterator[Row | BadRow]:
    """The first whole line behind each of ``count`` places, or the line that begins there; each line once."""
    sizes = [path.stat().st_size for path in files]
    step = -(-sum(sizes) // count) or 1
    place = 0  # within all files together
    for path, size, before in zip(files, sizes, accumulate(sizes, initial=0), strict=False):
        with reading(path), path.open("rb") as file:
            while place < before + size:
                file.seek(max(0, place - before - 1))
                if place > before:
                    file.readline(LONGEST_ROW)
                line = next(lines(file, path), b"")
                if line and not line.isspace():
                    yield parse_line(line, str(path), 0, path.parent)
                place = max(place + step, before + file.tell())
