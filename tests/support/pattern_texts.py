"""Texts made from the syntax tree of a regular expression that it may take long over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_parser = re._parser  # type: ignore[attr-defined]

_CATEGORIES = {
    "CATEGORY_DIGIT": "1", "CATEGORY_NOT_DIGIT": "x", "CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "x",
    "CATEGORY_WORD": "x", "CATEGORY_NOT_WORD": " ",
}  # fmt: skip
_OTHERS = "☃x 1\n.<[\"'…-/|あ\u0301"  # for classes that say what they don't match
_MOST_MEMBERS = 4  # of a class in brackets that are tried


def texts_for(pattern: re.Pattern[Any]) -> set[tuple[str, str]]:
    """(beginning, what is repeated) of each text: every part of the pattern is repeated, behind all that precedes it.

    Two parts that match the same characters, or a part that is looked for again from each place, show up as a time
    that grows faster than the text does.
    """
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = _parser.parse(source, pattern.flags)
    whole = _example(tree)
    parts = set(_parts(tree, ""))
    repeated = {part for _, part in parts} | {whole, whole[:-1], whole[1:]}
    texts = parts | {("", part + after) for part in repeated for after in ("", " ")}
    return {(before, part) for before, part in texts if part}


def _parts(tree: Iterable[Any], before: str) -> Iterator[tuple[str, str]]:
    """(an example of what precedes a part of the pattern, an example of the part), for parts at any depth.

    A single character is no part, since repeating it alone or with what is around it shows nothing more.
    """
    for op, value in tree:
        example = _example([(op, value)])
        if op.name != "LITERAL":
            yield before, example
        if op.name == "IN":
            yield from ((before, member) for member in _members(value))
        for inner in _inside(op.name, value):
            yield before, _example(inner)
            yield from _parts(inner, before)
        before += example


def _inside(op: str, value: Any) -> Sequence[Any]:
    match op:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [value[2]]
        case "SUBPATTERN":
            return [value[-1]]
        case "BRANCH":
            return list(value[1])
        case "ASSERT" | "ASSERT_NOT":
            return [value[1]]
        case "ATOMIC_GROUP":
            return [value]
    return []


def _example(tree: Iterable[Any]) -> str:
    """A text that a pattern matches if its lookarounds and references to groups are left aside."""
    return "".join(_example_of(op.name, value) for op, value in tree)


def _example_of(op: str, value: Any) -> str:
    match op:
        case "LITERAL":
            return chr(value)
        case "NOT_LITERAL":
            return next(other for other in _OTHERS if ord(other) != value)
        case "ANY":
            return _OTHERS[0]
        case "IN":
            return _members(value)[0]
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return _example(value[2]) * max(value[0], 1)
        case "BRANCH":
            return max(map(_example, value[1]), key=len)
        case "SUBPATTERN":
            return _example(value[-1])
        case "ATOMIC_GROUP":
            return _example(value)
        case "ASSERT":
            return _example(value[1]) if value[0] > 0 else ""
    return ""


def _members(items: Sequence[Any]) -> Sequence[str]:
    """A few characters that a class in brackets matches."""
    named = [member for op, value in items for member in _named(op.name, value)]
    if items[0][0].name == "NEGATE":
        return [other for other in _OTHERS if other not in named][:_MOST_MEMBERS] or ["\U0001f600"]
    return named[:_MOST_MEMBERS]


def _named(op: str, value: Any) -> str:
    match op:
        case "LITERAL":
            return chr(value)
        case "RANGE":
            return chr(value[0])
        case "CATEGORY":
            return _CATEGORIES[value.name]
    return ""
