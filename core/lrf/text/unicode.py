"""Characters that can't be written as UTF-8 or stored: surrogates (halves of characters in UTF-16) and NUL."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of surrogate pairs are put together, lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_of_equal_length(text: str) -> str:
    """The text with U+FFFD for every surrogate, so that each character keeps its place."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def unusable_character(text: str) -> tuple[str, int] | None:
    """The first character that no text of the data or the pipeline may have, in words, and its place; else None."""
    if _is_usable(text) or (match := _UNUSABLE.search(text)) is None:
        return None
    name = "the NUL character" if match[0] == "\0" else f"the lone surrogate U+{ord(match[0]):04X}"
    return name, match.start()


def _is_usable(text: str) -> bool:
    """Whether it has no such character. Encoding takes a tenth of the time that a search with a pattern takes."""
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
