"""Lines of JSON as rows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lrf.rows.checks import quoted
from lrf.types import JSON, BadRow

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    ``value`` is any JSON value; ``line`` its line (or number) in ``file``, from 1; ``folder`` as in
    :func:`lrf.rows.data.sample_from_row`.
    """

    file: str
    line: int
    value: JSON
    folder: Path | None = None


def parse_line(line: bytes, file: str, number: int, folder: Path | None = None) -> Row | BadRow:
    """The JSON value on a line. NaN, infinities and keys given twice are refused, as the JSON standard advises."""
    try:
        text = (line.removeprefix(_BOM) if number == 1 else line).rstrip().decode("utf-8")
        return Row(file, number, json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique), folder)
    except UnicodeDecodeError as error:
        return BadRow(file, number, f"not UTF-8: {error.reason} at byte {error.start} of the line")
    except json.JSONDecodeError as error:
        return BadRow(file, number, f"not JSON: {error.msg} at character {error.pos + 1} of the line")
    except RecursionError:
        return BadRow(file, number, "not usable JSON: nested too deeply")
    except ValueError as error:
        return BadRow(file, number, f"not usable JSON: {error}")


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is no JSON value")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {quoted(twice)} is given twice")
    return result
