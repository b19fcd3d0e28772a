"""Requests for a batch API and the replies from it, in temporary files: thousands of them take little memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from typing import IO, Any


class RequestSpool:
    """Requests of one batch, one line of JSON each.

    Attributes
    ----------
    ids: the ``custom_id`` of each request, in order.
    size: bytes of all lines.
    uploaded: the provider's names of the files with the requests and with the ids, once they are uploaded.
    """

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
        """The requests, positioned at the first one."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


class BatchReplies:
    """The lines of a batch's result files by ``custom_id``. Of two lines with the same id the first counts."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._spans: dict[str, tuple[int, int]] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._spans)

    def add(self, parts: Iterable[bytes]) -> None:
        """Take in the bytes of a result file. Raises ValueError for a line that is no result."""
        start = offset = self._file.seek(0, os.SEEK_END)
        for part in parts:
            self._file.write(part)
        self._file.seek(start)
        for line in self._file:
            if line.strip():
                self._spans.setdefault(_custom_id(line), (offset, len(line)))
            offset += len(line)
        self._file.flush()

    def get(self, custom_id: str) -> dict[str, Any] | None:
        """The result of a request; None if it has no line."""
        span = self._spans.get(custom_id)
        if span is None:
            return None
        offset, length = span
        result: dict[str, Any] = json.loads(os.pread(self._file.fileno(), length, offset))
        return result

    def close(self) -> None:
        self._file.close()


def _custom_id(line: bytes) -> str:
    try:
        custom_id = json.loads(line)["custom_id"]
    except (KeyError, TypeError, RecursionError):
        custom_id = None
    if not isinstance(custom_id, str):
        raise ValueError("a line is no result")
    return custom_id
