"""Long texts shortened for messages."""

from __future__ import annotations

HEAD, TAIL = 250, 150


def excerpt(text: str) -> str:
    """The text on one line; of a long one its first :data:`HEAD` and last :data:`TAIL` characters."""
    line = " ".join(text.split())
    return line if len(line) <= HEAD + TAIL else f"{line[:HEAD]} … {line[-TAIL:]}"
