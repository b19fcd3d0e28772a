"""Lines of JSON as rows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, AnyStr

from lrf.errors import DataError
from lrf.rows.values import finite, quoted, refuse_constant
from lrf.types import JSON, BadRow

LONGEST_ROW = 1 << 28
"""Bytes of one row at most, so that a small file can't fill the memory once it is unpacked."""

_BOM = b"\xef\xbb\xbf"
_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # the only form in which JSON in UTF-8 has NUL or a surrogate


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    ``value`` is any JSON value; ``line`` its line (or number) in ``file``, from 1; ``folder`` as in
    :func:`lrf.rows.data.sample_from_row`. ``checked``: the value comes from JSON
    text, and no text in it contains NUL or a surrogate.
    """

    file: str
    line: int
    value: JSON
    folder: Path | None = None
    checked: bool = False


def lines(file: IO[AnyStr], path: Path | str) -> Iterator[AnyStr]:
    """The file's lines. Raises :class:`lrf.errors.DataError` for one that is longer than :data:`LONGEST_ROW`."""
    number = 0
    while line := file.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) > LONGEST_ROW:
            raise DataError(f"{path}:{number}: the line is longer than {LONGEST_ROW:,} bytes, the most that is read")
        yield line


def too_large(file: str, number: int, size: int) -> BadRow:
    """A row of a table that takes more than :data:`LONGEST_ROW` bytes."""
    return BadRow(file, number, f"takes {size:,} bytes unpacked; {LONGEST_ROW:,} are the most that are read of a row")


def parse_line(line: bytes, file: str, number: int, folder: Path | None = None) -> Row | BadRow:
    """The JSON value on a line. NaN, infinities and keys given twice are refused, as the JSON standard advises."""
    try:
        text = (line.removeprefix(_BOM) if number == 1 else line).rstrip().decode("utf-8")
        return Row(file, number, _decode(text), folder, checked=b"\\" not in line or not _ESCAPE.search(line))
    except UnicodeDecodeError as error:
        return BadRow(file, number, f"not UTF-8: {error.reason} at byte {error.start} of the line")
    except json.JSONDecodeError as error:
        return BadRow(file, number, f"not JSON: {error.msg} at character {error.pos + 1} of the line")
    except RecursionError:
        return BadRow(file, number, "not usable JSON: nested too deeply")
    except ValueError as error:
        return BadRow(file, number, f"not usable JSON: {error}")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {quoted(twice)} is given twice")
    return result


_decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite, object_pairs_hook=_unique).decode
