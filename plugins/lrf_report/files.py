"""Files that appear whole, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lrf.text.redaction import redact
from lrf.text.unicode import storable


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file to write to, renamed to ``path`` when the block ends without an error and removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clean(text: str) -> str:
    """The text as UTF-8 can hold it, with secrets of this process replaced."""
    return redact(storable(text))
