"""Whether a number or a name of a statement belongs to something else in the evidence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence, Set

from lrf_overlap.comparison import Comparison
from lrf_overlap.numerals import FIRST_HAN
from lrf_overlap.quantity import Quantity
from lrf_overlap.sentence import Sentence
from lrf_overlap.sentences import analysed

_PERSON = re.compile(r"\b(?:he|she|they|him|her|his|their|them)\b|[他她]", re.IGNORECASE)
_THING = re.compile(r"\b(?:it|its|this|these|those)\b|[它其该]", re.IGNORECASE)
_NEAR = 0.5
"""What a sentence counts that is next to one with the number or the name: it may speak of the same."""
_SURE = 0.5
"""The share of the rest from which on it surely belongs to another one."""
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
    most = 0.0
    for place, token in enumerate(tokens):
        if token.kind not in ("name", "number") or not shares[place] or _is_small(statement.quantities.get(place)):
            continue
        if len(statement.places[token.key]) > 1:  # it belongs to several things
            continue
        others = [
            other
            for other, its in enumerate(tokens)
            if its.kind != "number"
            and other != place
            and not (its.kind == token.kind and abs(other - place) == 1)
            and not (token.kind == "name" and token.key[0] >= FIRST_HAN and -5 < other - place < 2)
        ]
        if len(others) < 2:
            continue
        cover: dict[int, float] = defaultdict(float)
        for other in others:
            for number, share in shares[other].items():
                cover[number] += share
        best = max(cover.values(), default=0.0)
        own = max(
            max(cover.get(n, 0.0), _NEAR * cover.get(n - 1, 0.0), _NEAR * cover.get(n + 1, 0.0)) for n in shares[place]
        )
        if best > own and (best - own) / len(others) > most:
            sure = min(_rival(comparison, place, n) for n, share in cover.items() if share > best - 1e-9)
            most = max(most, sure * (best - own) / len(others))
    return min(1.0, most / _SURE)


def _is_small(said: Sequence[Quantity] | None) -> bool:
    return said is not None and said[0].kind in ("number", "ordinal") and said[0].value <= _FEW


def _rival(comparison: Comparison, place: int, number: int) -> float:
    """How surely a sentence has another number of that kind, or another name, where the statement has this one."""
    statement, text = comparison.statement, comparison.evidence.sentences[number]
    theirs = analysed(text)
    if statement.tokens[place].kind == "number":
        kind = statement.quantities[place][0].kind
        said = {quantity for quantities in statement.quantities.values() for quantity in quantities}
        found = {quantity for quantities in theirs.quantities.values() for quantity in quantities}
        return float(any(q.kind == kind and not any(mine.said_by(q) for mine in said) for q in found))
    own = set(_PERSON.findall(comparison.text.lower()))  # whom they stand for in both isn't the one named
    if not _has_other_name(theirs, statement.places.keys()) or not own.issuperset(_PERSON.findall(text.lower())):
        return 0.0
    return 0.5 if _THING.search(text) else 1.0


def _has_other_name(theirs: Sentence, keys: Set[str]) -> bool:
    return any(token.kind == "name" and token.key not in keys for token in theirs.tokens)
