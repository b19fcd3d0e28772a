"""The source ``jsonl``: a row on each line, in the fields of :mod:`lrf.rows.data`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from lrf.rows.data import samples_from_rows
from lrf.types import BadRow, Sample
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

    def read(self) -> Iterator[Sample | BadRow]:
        files = find_files(self._path)
        rows = (row for file in files for row in read_jsonl(file))
        return samples_from_rows(rows, max_file_bytes=self._max_file_bytes)

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
