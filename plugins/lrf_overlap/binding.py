"""Whether a number or a name of a statement belongs to something else in the evidence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lrf_overlap.comparison import Comparison
from lrf_overlap.numerals import FIRST_HAN
from lrf_overlap.quantity import Quantity
from lrf_overlap.sentence import Token
from lrf_overlap.sentences import analysed

_PERSON = re.compile(r"\b(?:he|she|they|him|her|his|their|them)\b|[他她]", re.IGNORECASE)
_THING = re.compile(r"\b(?:it|its|this|these|those)\b|[它其该]", re.IGNORECASE)
_NEAR = 0.5
"""What a sentence counts that is next to one with the number or the name: it may speak of the same."""
_SURE = 0.5
"""The share of the rest from which on it surely belongs to another one."""
_ROUNDING = 1e-9
_FEW = 2
"""A number up to which, without a unit, says too little of what it belongs to."""


def detached(comparison: Comparison) -> float:
    """How surely a number or a name of the statement belongs to something else, 0 to 1: the rest is beside another one.

    "It opened in 1931", where the evidence says that it opened in 1936, and of 1931 something else.
    """
    statement, shares = comparison.statement, comparison.shares
    tokens = statement.tokens
    if len(tokens) < 3:
        return 0.0
    words = [place for place, token in enumerate(tokens) if token.kind != "number"]
    whole = _cover({}, shares, words, 1)
    most, rivals = 0.0, _Rivals(comparison)
    for place, token in enumerate(tokens):
        if token.kind not in ("name", "number") or not shares[place] or _is_small(statement.quantities.get(place)):
            continue
        if len(statement.places[token.key]) > 1:  # it belongs to several things
            continue
        own_words = _own_words(tokens, place) if token.kind == "name" else range(0)
        others = len(words) - len(own_words)
        if others < 2:
            continue
        cover = _cover(whole, shares, own_words, -1)
        best = max(cover.values(), default=0.0)
        own = max(
            max(cover.get(n, 0.0), _NEAR * cover.get(n - 1, 0.0), _NEAR * cover.get(n + 1, 0.0)) for n in shares[place]
        )
        if best > own + _ROUNDING and (best - own) / others > most:
            kind = statement.quantities[place][0].kind if token.kind == "number" else "name"
            sure = min(rivals.in_(n, kind) for n, share in cover.items() if share > best - _ROUNDING)
            most = max(most, sure * (best - own) / others)
    return min(1.0, most / _SURE)


def _cover(
    before: Mapping[int, float], shares: Sequence[Mapping[int, float]], places: Iterable[int], sign: int
) -> dict[int, float]:
    """What each sentence has of a statement, with these tokens' shares added or taken away."""
    cover = defaultdict(float, before)
    for place in places:
        for number, share in shares[place].items():
            cover[number] += sign * share
    return cover


def _own_words(tokens: Sequence[Token], place: int) -> list[int]:
    """The places of a name's own words: of it and the parts beside it, in Chinese of the title before it, too."""
    if tokens[place].key[0] >= FIRST_HAN:
        around = range(max(0, place - 4), min(len(tokens), place + 2))
        return [other for other in around if tokens[other].kind != "number"]
    beside = (other for other in (place - 1, place + 1) if 0 <= other < len(tokens))
    return [place, *(other for other in beside if tokens[other].kind == "name")]


def _is_small(said: Sequence[Quantity] | None) -> bool:
    return said is not None and said[0].kind in ("number", "ordinal") and said[0].value <= _FEW


class _Rivals:
    """How surely a sentence has another number of a kind, or another name, where the statement has its own."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        statement = comparison.statement
        self._said = {quantity for quantities in statement.quantities.values() for quantity in quantities}
        self._persons = set(_PERSON.findall(comparison.text.lower()))  # whom they stand for isn't the one named
        self._known: dict[tuple[str, int], float] = {}

    def in_(self, number: int, kind: str) -> float:
        """``number``: of the sentence; ``kind``: of the quantity, or "name"."""
        known = self._known.get((kind, number))
        if known is None:
            known = self._known[kind, number] = self._look(self._comparison.evidence.sentences[number], kind)
        return known

    def _look(self, text: str, kind: str) -> float:
        theirs = analysed(text)
        if kind != "name":
            found = {quantity for quantities in theirs.quantities.values() for quantity in quantities}
            return float(any(q.kind == kind and not any(mine.said_by(q) for mine in self._said) for q in found))
        keys = self._comparison.statement.places
        if not any(token.kind == "name" and token.key not in keys for token in theirs.tokens):
            return 0.0
        if not self._persons.issuperset(_PERSON.findall(text.lower())):
            return 0.0
        return 0.5 if _THING.search(text) else 1.0
