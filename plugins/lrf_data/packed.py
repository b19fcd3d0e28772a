"""Packed files of a folder that ``datasets`` unpacks: what they take in memory is found out before.

JSON Lines are then read a line at a time, and every other format may be read as a whole.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from lrf.errors import DataError
from lrf.rows.lines import lines
from lrf_data import arrow_sizes
from lrf_data.formats import HEAD_BYTES, other_format

MOST_WHOLE = 1 << 30
"""Bytes, unpacked, of a packed file at most that isn't JSON Lines."""

_ZIP, _ZSTD, _PARQUET = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), b"\x28\xb5\x2f\xfd", b"PAR1"
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""What unpacks a file, by how it begins: datasets looks at this, too, where a name's end says nothing."""

_UNPACK = "unpack it into the folder"


def check_packed(path: Path) -> None:
    """Raise :class:`lrf.errors.DataError` for a packed file that would fill the memory, or can't be checked.

    A file that isn't packed is fine. Compressed batches of an Arrow file count as packed.
    """
    with path.open("rb") as file:
        check_file(file, str(path))


def check_file(file: BinaryIO, name: str) -> None:
    """As :func:`check_packed`, for a file that can be sought in. So is one JSON array, which is read as a whole."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    with _unpacking(name):
        if head.startswith(_ZIP):
            _check_zip(file, name)
        elif head.startswith(_ZSTD) and find_spec("zstandard") is None:
            raise DataError(
                f"{name}: compressed with zstd, which takes the package zstandard; install it, or {_UNPACK}"
            )
        elif head.startswith((arrow_sizes.FILE, arrow_sizes.STREAM)):
            arrow_sizes.check_batches(file, name)
        elif opener := _opener(head):
            with opener(file, "rb") as unpacked:
                _check(unpacked, name)
        elif head.lstrip().startswith(b"[") and file.seek(0, io.SEEK_END) > MOST_WHOLE:
            raise DataError(f"{name}: more than {MOST_WHOLE:,} bytes in one JSON array; write it as JSON Lines")


def _opener(head: bytes) -> Callable[..., Any] | None:
    if head.startswith(_ZSTD):
        import zstandard

        opener: Callable[..., Any] = zstandard.open
        return opener
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


def _check_zip(packed: BinaryIO, path: str) -> None:
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            name = f"{path}: {member.filename}"
            if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename.replace("\\", "/")).parts:
                raise DataError(f"{name}: leads out of the archive; unpack what you trust into the folder")
            if member.flag_bits & 1:
                raise DataError(f"{name}: is encrypted; {_UNPACK}")
            if not member.is_dir():
                with archive.open(member) as file:
                    _check(file, name)


def _check(file: Any, name: str) -> None:
    """Raise DataError for unpacked content that takes too much, or is itself packed."""
    buffered = io.BufferedReader(file, 1 << 20)  # zstandard's can't be sought in
    head = buffered.peek(HEAD_BYTES)[:HEAD_BYTES]
    if head.startswith((*_ZIP, _ZSTD, _PARQUET, *_OPENERS)):
        raise DataError(f"{name}: packed within a packed file, so that nobody can say what it takes; {_UNPACK}")
    if other_format(head, Path(name)) is None:
        for _ in lines(buffered, name):
            pass
    elif _size(buffered) > MOST_WHOLE:
        raise DataError(f"{name}: takes more than {MOST_WHOLE:,} bytes unpacked, and isn't JSON Lines; {_UNPACK}")


def _size(file: BinaryIO) -> int:
    """The bytes that a file holds, up to a little more than :data:`MOST_WHOLE`."""
    size = 0
    while size <= MOST_WHOLE and (part := file.read(1 << 20)):
        size += len(part)
    return size


@contextmanager
def _unpacking(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: can't be unpacked: {getattr(error, 'strerror', None) or error}") from error
