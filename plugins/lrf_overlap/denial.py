"""Whether a statement denies what the evidence says, or the reverse, by a negation or by an opposite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from lrf_overlap.comparison import Comparison
from lrf_overlap.opposites import opposed
from lrf_overlap.sentence import Opposite, Sentence

_NEARBY = 0.6
"""How surely a clause is denied by one that has less of it than others."""
_FAR = 0.3
"""How surely it is denied by a word that stands elsewhere in the sentence."""
_SURE = 0.7
"""The share of a clause from which on it surely speaks of the same thing."""


def denied(comparison: Comparison) -> float:
    """How surely a clause denies what the clauses of the evidence say that have most of it, or the reverse.

    Two differences of that kind cancel each other: "none is more than", "all are within".
    """
    most = 0.0
    statement, theirs = comparison.statement, [sentence for sentence, _ in comparison.theirs]
    may_turn = statement.opposites or statement.privatives or any(sentence.privatives for sentence in theirs)
    may_deny = statement.negations or any(sentence.negations for sentence in theirs)
    for clause, covers in zip(statement.clauses, comparison.cover, strict=True):
        if not covers:
            continue
        mine = statement.tokens[clause.start].clause
        turned = may_turn and _turned_to_opposites(statement, mine, [(theirs[n], c) for n, c, _ in covers])
        if turned:  # opposites are turned by negations already
            most = max(most, (turned % 2) * min(1.0, _together(covers) / _SURE))
            continue
        if may_deny:
            values = [min(1.0, share / _SURE) if _negated(comparison, mine, n, c) else 0.0 for n, c, share in covers]
            most = max(most, min(values) or _NEARBY * _denied_nearby(comparison, mine))
        if not most and statement.opposites:
            sentences = [theirs[n] for n in {n for n, _, _ in covers}]
            nearby = [(sentence, c) for sentence in sentences for c in {token.clause for token in sentence.tokens}]
            turned = _turned_to_opposites(statement, mine, nearby)
            most = _FAR * (turned % 2) * min(1.0, _together(covers) / _SURE)
    return most


def _turned_to_opposites(statement: Sentence, mine: int, found: Sequence[tuple[Sentence, int]]) -> int:
    """How many words of a clause have an opposite in clauses of the evidence, and none that means the same."""
    turned = sum(_denying(statement, mine, *other) + _denying(*other, statement, mine) for other in found)
    stated = _opposites(statement, mine)
    if not stated:
        return turned
    theirs = [word for other in found for word in _opposites(*other)]
    own, both = _ambiguous(stated), _ambiguous(theirs)
    mine_too = {word.key for word in stated}
    said = {sign for word in theirs if word.key not in mine_too for sign in word.signs if sign[0] not in both}
    for word in stated:
        if same := [other for other in theirs if other.key == word.key]:
            turned += word.denying and all(word.denied != other.denied and word.signs != other.signs for other in same)
        else:
            turned += opposed([sign for sign in word.signs if sign[0] not in own], said)
    return turned


def _denied_nearby(comparison: Comparison, mine: int) -> bool:
    """Whether any clause denies what this one says: "to the shop, never to the hall"."""
    return any(
        _denies(theirs, clause, comparison.statement, mine)
        for theirs, _ in comparison.theirs
        for clause in {theirs.tokens[scope[0]].clause for scope in theirs.negations if scope}
    ) or any(
        _denies(comparison.statement, mine, theirs, clause, least=2)
        for theirs, _ in (comparison.theirs if comparison.statement.negations else ())
        for clause in {token.clause for token in theirs.tokens}
    )


def _negated(comparison: Comparison, mine: int, n: int, theirs: int) -> bool:
    sentence = comparison.theirs[n][0]
    return _denies(comparison.statement, mine, sentence, theirs) or _denies(
        sentence, theirs, comparison.statement, mine
    )


def _together(covers: Sequence[tuple[int, int, float]]) -> float:
    """The share of a clause that the clauses of one sentence have at most, if each has other parts of it."""
    by_sentence: dict[int, float] = defaultdict(float)
    for sentence, _, share in covers:
        by_sentence[sentence] += share
    return max(by_sentence.values())


def _opposites(sentence: Sentence, clause: int) -> list[Opposite]:
    """The words of a clause that have opposites."""
    return [word for word in sentence.opposites if word.clause == clause]


def _ambiguous(words: Iterable[Opposite]) -> set[int]:
    """The pairs of which there are words of both sides, which say nothing: "wet papers are dried"."""
    signs = {sign for word in words for sign in word.signs}
    return {pair for pair, side in signs if (pair, -side) in signs}


def _denying(one: Sentence, mine: int, other: Sentence, theirs: int) -> int:
    """How many words of a clause are "unqualified" where the other one says "qualified"."""
    if not one.privatives:
        return 0
    return sum(
        clause == mine
        and key not in other.places
        and any(other.tokens[place].clause == theirs for place in other.places.get(rest, ()))
        for key, rest, clause in one.privatives
    )


def _synonyms(one: Sentence, place: int, other: Sentence, theirs: int) -> list[int]:
    """The places of words of a clause that are on the same side of a pair of opposites as a word of another."""
    signs = {sign for word in one.opposites if word.place == place for sign in word.plain}
    if not signs:
        return []
    return [word.place for word in other.opposites if word.clause == theirs and not signs.isdisjoint(word.plain)]


def _denies(one: Sentence, mine: int, other: Sentence, theirs: int, *, least: int = 1) -> bool:
    """Whether a negation in a clause denies words, first among them the next two, that the other one doesn't deny.

    ``least``: how many of them the other one must have.
    """
    for scope in one.negations:
        if not scope or one.tokens[scope[0]].clause != mine:
            continue
        found = [
            [p for p in other.places.get(one.tokens[place].key, ()) if other.tokens[p].clause == theirs]
            or _synonyms(one, place, other, theirs)
            for place in scope
        ]
        places = [p for some in found for p in some]
        han = one.tokens[scope[0]].kind == "han"
        needed = (
            sum(map(bool, found[:3])) >= min(2, max(1, len(found) - 1))
            if han
            else (bool(found[0]) and any(found[1:3] or found)) or (not found[0] and sum(map(bool, found[1:])) >= 3)
        )
        if (
            sum(map(bool, found)) >= min(least, len(scope))
            and needed
            and theirs not in other.refusing
            and not any(p in other.denied for p in places)
        ):
            return True
    return False
