"""Characters that can't be stored (surrogates, which are halves of characters in UTF-16, and NUL) or can't be seen."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")

# Soft hyphens (with the line break they stand before), joiners, marks of direction, invisible operators, variations,
# tags: they belong to no word, and text that was taken from PDF files has them within words.
_INVISIBLE = re.compile(
    "\u00ad[ \t]*\r?\n?|[\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]+"
)


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of surrogate pairs are put together, lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", _PAIR.sub(_joined, text))  # a codec takes microseconds for each of them
    return text


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


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


def without_invisible(text: str) -> str:
    """The text without characters that can't be seen, so that words parted by them are whole again."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def invisible_spans(text: str) -> list[tuple[int, int]]:
    """Where the characters are, from start to end, that :func:`without_invisible` takes out."""
    return [] if text.isascii() else [match.span() for match in _INVISIBLE.finditer(text)]
