"""Formats that a data file is in by mistake: recognised by how it begins, and named with what to do."""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 4096
"""Bytes of a file's beginning that :func:`other_format` looks at."""

_BOM = b"\xef\xbb\xbf"
_MAGIC = (
    (b"PAR1", "a Parquet file; use the source parquet (`type: parquet`)"),
    (b"ARROW1", "an Arrow file; load it with the source huggingface (`type: huggingface`), or write it as Parquet"),
    (b"\x1f\x8b", "compressed with gzip; end its name in .gz"),
    (b"BZh", "compressed with bzip2; unpack it, or compress it with gzip"),
    (b"\xfd7zXZ", "compressed with xz; unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it, or compress it with gzip"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack or export it"),
    (b"SQLite format 3", "an SQLite database; export its rows as JSON Lines"),
    (b"%PDF", "a PDF; extract its text first"),
    (b"\xff\xfe", "text in UTF-16; write it in UTF-8"),
    (b"\xfe\xff", "text in UTF-16; write it in UTF-8"),
)
_ONE_OBJECT_A_LINE = "put each object on a line of its own"
_HEADER = re.compile(r"[^{}\[\]]*?([,;\t])[^{}\[\]]*")
"""The first line of a table, and its separator."""


def other_format(head: bytes, path: Path) -> str | None:
    """What a file that should be JSON Lines is instead, and what to do; None where it may be JSON Lines.

    ``head``: its first bytes, unpacked where its name ends in ``.gz``.
    """
    for magic, format_ in _MAGIC:
        if head.startswith(magic):
            return format_
    text = head.removeprefix(_BOM).decode("utf-8", "replace").lstrip()
    first, _, rest = text.partition("\n")
    first, second = first.rstrip(), rest.lstrip().partition("\n")[0].rstrip()
    if text.startswith("[") and not (first.endswith("]") and second.startswith("{")):
        return f"one JSON array; {_ONE_OBJECT_A_LINE}: jq -c '.[]' {path} > {path.stem}.jsonl"
    if first == "{" and second.startswith('"'):
        return f"JSON over several lines; {_ONE_OBJECT_A_LINE}: jq -c . {path} > {path.stem}.jsonl"
    if text.startswith(("<?xml", "<!DOCTYPE", "<html")):
        return "XML or HTML; write its rows as JSON Lines"
    header = _HEADER.fullmatch(first)
    return _table(header[1], path) if header and header[1] in second and not second.startswith("{") else None


def _table(separator: str, path: Path) -> str:
    name = "TSV" if separator == "\t" else "CSV"
    reader = f"csv.DictReader(sys.stdin, delimiter={separator!r})"
    convert = f'python -c "import csv, json, sys; [print(json.dumps(row)) for row in {reader}]"'
    return f"a {name} table; write its rows as JSON Lines: {convert} < {path} > {path.stem}.jsonl"
