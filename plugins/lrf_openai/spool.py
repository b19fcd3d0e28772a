"""What goes to a batch API and what comes back, on disk: thousands of requests and replies, and little memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from typing import IO, Any


class Spool:
    """Requests that wait for their batch, a line of JSON each. ``uploaded`` has the provider's names of its files."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.size = 0
        self.uploaded: tuple[str, str] | None = None
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, custom_id: str, line: bytes) -> None:
        self._file.write(line)
        self.ids.append(custom_id)
        self.size += len(line)

    def file(self) -> IO[bytes]:
        """The requests, from the first one on."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


class Replies:
    """The lines of a batch's result files by their ``custom_id``; of two with the same one the first counts."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[str, tuple[int, int]] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._places)

    def add(self, parts: Iterable[bytes]) -> None:
        """Take the bytes of a result file. Raises ValueError for a line that is no result."""
        start = at = self._file.seek(0, os.SEEK_END)
        for part in parts:
            self._file.write(part)
        self._file.seek(start)
        for line in self._file:
            if line.strip():
                self._places.setdefault(_custom_id(line), (at, len(line)))
            at += len(line)
        self._file.flush()

    def get(self, custom_id: str) -> dict[str, Any] | None:
        """The result of a request, if there is one."""
        place = self._places.get(custom_id)
        if place is None:
            return None
        result: dict[str, Any] = json.loads(os.pread(self._file.fileno(), place[1], place[0]))
        return result

    def close(self) -> None:
        self._file.close()


def _custom_id(line: bytes) -> str:
    try:
        found = json.loads(line)["custom_id"]
    except (KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise ValueError("a line is no result")
    return found
