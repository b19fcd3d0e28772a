"""Finding the files of a source and reading their lines."""

from __future__ import annotations

import glob
import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from lrf.errors import DataError
from lrf.rows.lines import Row, lines, parse_line
from lrf.types import BadRow
from lrf_data.formats import HEAD_BYTES, other_format


def find_files(path: Path | Sequence[Path]) -> list[Path]:
    """The files that a ``path`` setting names, those of a pattern sorted by name. Raises DataError for none."""
    files: list[Path] = []
    for one in [path] if isinstance(path, Path) else path:
        if one.is_dir():
            raise DataError(f"{one}: is a folder; name its files, as in {one}/*")
        if one.exists():
            files.append(one)
        elif glob.has_magic(str(one)):
            matches = glob.glob(str(one), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            matching = sorted(Path(f) for f in matches if Path(f).is_file())
            if not matching:
                raise DataError(f"{one}: no file matches this pattern")
            files += matching
        else:
            raise DataError(f"{one}: no such file")
    return files


@contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """Turns an error while a file is read, or unpacked, into a DataError that names the file."""
    try:
        yield
    except (
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        where = getattr(error, "filename", None) or path
        raise DataError(f"{where}: can't be read: {getattr(error, 'strerror', None) or error}") from error


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where its name ends in ``.gz``."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_jsonl(path: Path) -> Iterator[Row | BadRow]:
    """Each line's JSON value; blank lines are left out.

    Raises :class:`lrf.errors.DataError` when the file can't be read at all, or is in another format.
    """
    with reading(path), open_bytes(path) as file:
        if (instead := other_format(cast(Any, file).peek(HEAD_BYTES)[:HEAD_BYTES], path)) is not None:
            raise DataError(f"{path}: not JSON Lines, but {instead}")
        name, folder = str(path), path.parent
        for number, line in enumerate(lines(file, path), start=1):
            if not line.isspace():
                yield parse_line(line, name, number, folder)
