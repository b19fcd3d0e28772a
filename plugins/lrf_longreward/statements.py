"""Repetitions among the statements of an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence

_TOKEN = re.compile(
    r"[.,]?\d+(?:[.,:/]\d+)*['\"]?"  # a number, a time, a fraction, with the mark of feet, inches, minutes
    r"|[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+(?:'[^\W\d_]+)*"
    r"|\S"
)
_PUNCTUATION = frozenset("\"'“”‘’«»「」『』《》()[]（）.,;:!?。，、；：！？…_*")
_NO_FACTS = frozenset({"a", "an", "the", "also", "that", "which", "who", "的", "了", "也", "是"})


def distinct(statements: Sequence[str], *, near: bool = False) -> list[str]:
    """The statements without repetitions, in order of first appearance.

    Statements are the same if they differ only in white space, case, the encoding of accents and a final full stop;
    with ``near`` also if their :func:`facts` are equal.
    """
    first: dict[Hashable, int] = {}
    same_as = list(range(len(statements)))

    def root(place: int) -> int:
        while same_as[place] != place:
            place = same_as[place]
        return place

    for place, statement in enumerate(statements):
        exact = " ".join(unicodedata.normalize("NFC", statement).split()).casefold()
        exact = exact.rstrip(" .。") or exact
        for key in (exact, facts(statement)) if near else (exact,):
            one, other = sorted((root(place), root(first.setdefault(key, place))))
            same_as[other] = one
    return [statement for place, statement in enumerate(statements) if same_as[place] == place]


def facts(statement: str) -> tuple[str, ...]:
    """The words of a statement that carry its facts; statements with equal facts are near-duplicates.

    These are its words in order (characters, in Chinese), with all numbers, signs, names and negations. Punctuation and
    a few words that change no fact (articles, "that", "which", "who", "also"; 的, 了, 也, 是) are left out, and the
    capital of the first word doesn't count. Endings do: "plans" and "planes" differ.
    """
    words = _TOKEN.findall(unicodedata.normalize("NFC", statement).replace("’", "'"))
    kept = []
    for place, word in enumerate(word for word in words if word not in _PUNCTUATION):
        if place == 0 and (len(word) == 1 or word[1:].islower()):  # not an acronym
            word = word.lower()
        if word not in _NO_FACTS:
            kept.append(word)
    return tuple(kept) or (statement,)
