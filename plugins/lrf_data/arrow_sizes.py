"""How much memory the compressed batches of an Arrow file take once they are unpacked: read without unpacking them.

Each buffer of a compressed batch begins with its unpacked length (Arrow's columnar format, section "Compression"). The
batches' descriptions are flatbuffers (Arrow's ``Message.fbs``), of which only what leads to these lengths is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from lrf.errors import DataError

FILE, STREAM = b"ARROW1", b"\xff\xff\xff\xff"
"""How files of the two Arrow formats begin."""
LARGEST_BATCH = 1 << 31
"""Bytes of a batch at most, unpacked."""

_DICTIONARY, _BATCH = 2, 3  # kinds of messages


def check_batches(file: BinaryIO, name: str) -> None:
    """Raise :class:`lrf.errors.DataError` for a compressed batch that takes too much; what isn't Arrow is no matter."""
    for size in _unpacked_sizes(file):
        if size > LARGEST_BATCH:
            raise DataError(
                f"{name}: a batch takes {size:,} bytes unpacked; {LARGEST_BATCH:,} are the most that are read; "
                "write the file with smaller batches"
            )


def _unpacked_sizes(file: BinaryIO) -> Iterator[int]:
    if file.read(8)[:6] != FILE:
        file.seek(0)
    try:
        while len(begin := file.read(8)) == 8:
            mark, length = begin[:4], struct.unpack_from("<i", begin, 4)[0]
            if mark != STREAM or length <= 0:  # the end, or a format that is older than compression
                return
            about = file.read(length)
            body = file.tell()
            message = _Table(about, struct.unpack_from("<I", about)[0])
            if (batch := _batch_of(message)) is not None:
                yield sum(_lengths(file, body, batch))
            file.seek(body + message.number(3, "<q"))
    except (struct.error, ValueError):  # damaged: its reader says so
        return


class _Table:
    """A table of a flatbuffer: its fields are found by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self._at = data, at

    def place(self, field: int) -> int | None:
        """Where the field is; None for one that is left out."""
        numbers = self._at - struct.unpack_from("<i", self.data, self._at)[0]
        size = struct.unpack_from("<H", self.data, numbers)[0]
        offset = struct.unpack_from("<H", self.data, numbers + 4 + 2 * field)[0] if 4 + 2 * field < size else 0
        return self._at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        place = self.place(field)
        return 0 if place is None else int(struct.unpack_from(form, self.data, place)[0])

    def target(self, field: int) -> int | None:
        """Where the table or vector is that the field refers to."""
        place = self.place(field)
        return None if place is None else place + struct.unpack_from("<I", self.data, place)[0]


def _batch_of(message: _Table) -> _Table | None:
    """The compressed batch that a message holds, if it does."""
    kind, at = message.number(1, "<B"), message.target(2)
    if kind == _DICTIONARY and at is not None:
        at = _Table(message.data, at).target(1)
    elif kind != _BATCH:
        return None
    batch = None if at is None else _Table(message.data, at)
    return batch if batch is not None and batch.place(3) is not None else None


def _lengths(file: BinaryIO, body: int, batch: _Table) -> Iterator[int]:
    """The unpacked length of each buffer of a batch; -1 in the file says that the buffer isn't packed."""
    at = batch.target(2)
    count = 0 if at is None else struct.unpack_from("<I", batch.data, at)[0]
    for i in range(count):
        offset, length = struct.unpack_from("<qq", batch.data, (at or 0) + 4 + 16 * i)
        if length:
            file.seek(body + offset)
            unpacked = struct.unpack("<q", file.read(8))[0]
            yield unpacked if unpacked >= 0 else length
