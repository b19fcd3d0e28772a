"""Which statements of an answer are the same one said twice."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

_TOKEN = re.compile(
    r"\d+(?:[.,:/]\d+)*"  # a number, a time, a fraction
    r"|[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+(?:'[^\W\d_]+)*"
    r"|\S"
)
_PUNCTUATION = frozenset("\"'“”‘’«»「」『』《》()[]（）.,;:!?。，、；：！？…_*")
_NO_FACTS = frozenset({"a", "an", "the", "also", "that", "which", "who", "was", "were", "的", "了", "也", "是"})
_ENDINGS = ("ing", "ed", "es", "s", "e")
_SHORTEST_STEM = 4


def distinct(statements: Sequence[str], *, near: bool = False) -> list[str]:
    """The statements without repetitions, in order of first appearance.

    Those are repetitions that are equal but for white space and case; with ``near`` those of equal :func:`facts`, too.
    """
    first: dict[Hashable, int] = {}
    same_as = list(range(len(statements)))

    def root(place: int) -> int:
        while same_as[place] != place:
            place = same_as[place]
        return place

    for place, statement in enumerate(statements):
        exact = " ".join(statement.split()).casefold()
        for key in (exact, facts(statement)) if near else (exact,):
            one, other = sorted((root(place), root(first.setdefault(key, place))))
            same_as[other] = one
    return [statement for place, statement in enumerate(statements) if same_as[place] == place]


def facts(statement: str) -> tuple[str, ...]:
    """What of a statement makes it another one: statements with equal facts are near-duplicates.

    These are its words in their order, Chinese by character, with all numbers, signs, names and negations as they
    are. Left out are punctuation and a few words that change no fact (articles, "that", "which", "who", "also", "was",
    "were"; 的, 了, 也, 是), and the endings -s, -es, -ed, -ing and -e of words in small letters. A first word's capital
    counts for nothing.
    """
    words = [word for word in _TOKEN.findall(statement.replace("’", "'")) if word not in _PUNCTUATION]
    found = []
    for place, word in enumerate(words):
        if place == 0 and (len(word) == 1 or word[1:].islower()):  # not an acronym
            word = word.lower()
        if word not in _NO_FACTS:
            # the first word could be a name
            found.append(_stem(word) if place and word.isascii() and word.isalpha() and word.islower() else word)
    return tuple(found) or (statement,)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word
