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
    clauses = [(sentence, _distinct(sentence)) for sentence in theirs] if may_deny else []
    mine_once = set(_distinct(statement))
    for clause, covers in zip(statement.clauses, comparison.cover, strict=True):
        mine = statement.tokens[clause.start].clause
        if not covers or mine not in mine_once:
            continue
        turned = may_turn and _turned_to_opposites(statement, mine, [(theirs[n], c) for n, c, _ in covers])
        if turned:  # opposites are turned by negations already
            most = max(most, (turned % 2) * min(1.0, _together(covers) / _SURE))
            continue
        if may_deny:
            values = [
                min(1.0, share / _SURE) if _negated(statement, mine, theirs[n], c) else 0.0 for n, c, share in covers
            ]
            most = max(most, min(values) or _NEARBY * _denied_nearby(statement, mine, clauses))
        if not most and mine in statement.opposites:
            nearby = [(theirs[n], c) for n in {n for n, _, _ in covers} for c in theirs[n].opposites]
            turned = _turned_to_opposites(statement, mine, nearby)
            most = _FAR * (turned % 2) * min(1.0, _together(covers) / _SURE)
    return most


def _distinct(sentence: Sentence) -> list[int]:
    """The clauses of a sentence, each once that says the same."""
    found: dict[object, int] = {}
    for clause in sentence.clauses:
        number = sentence.tokens[clause.start].clause
        says = tuple((sentence.tokens[place].key, place in sentence.denied) for place in clause)
        found.setdefault((says, number in sentence.refusing), number)
    return list(found.values())


def _turned_to_opposites(statement: Sentence, mine: int, found: Sequence[tuple[Sentence, int]]) -> int:
    """How many words of a clause have an opposite in clauses of the evidence, and none that means the same."""
    turned = sum(_denying(statement, mine, *other) + _denying(*other, statement, mine) for other in found)
    stated = statement.opposites.get(mine)
    if not stated:
        return turned
    theirs = [word for sentence, clause in found for word in sentence.opposites.get(clause, ())]
    own, both = _ambiguous(stated), _ambiguous(theirs)
    mine_too = {word.key for word in stated}
    said = {sign for word in theirs if word.key not in mine_too for sign in word.signs if sign[0] not in both}
    for word in stated:
        if same := [other for other in theirs if other.key == word.key]:
            turned += word.denying and all(word.denied != other.denied and word.signs != other.signs for other in same)
        else:
            turned += opposed([sign for sign in word.signs if sign[0] not in own], said)
    return turned


def _denied_nearby(statement: Sentence, mine: int, clauses: Sequence[tuple[Sentence, Sequence[int]]]) -> bool:
    """Whether any clause denies what this one says: "to the shop, never to the hall"."""
    return any(
        _denies(theirs, clause, statement, mine) or _denies(statement, mine, theirs, clause, least=2)
        for theirs, numbers in clauses
        for clause in numbers
    )


def _negated(statement: Sentence, mine: int, sentence: Sentence, theirs: int) -> bool:
    return _denies(statement, mine, sentence, theirs) or _denies(sentence, theirs, statement, mine)


def _together(covers: Sequence[tuple[int, int, float]]) -> float:
    """The share of a clause that the clauses of one sentence have at most, if each has other parts of it."""
    by_sentence: dict[int, float] = defaultdict(float)
    for sentence, _, share in covers:
        by_sentence[sentence] += share
    return max(by_sentence.values())


def _ambiguous(words: Iterable[Opposite]) -> set[int]:
    """The pairs of which there are words of both sides, which say nothing: "wet papers are dried"."""
    signs = {sign for word in words for sign in word.signs}
    return {pair for pair, side in signs if (pair, -side) in signs}


def _denying(one: Sentence, mine: int, other: Sentence, theirs: int) -> int:
    """How many words of a clause are "unqualified" where the other one says "qualified"."""
    privatives = one.privatives.get(mine, ())
    return sum(key not in other.places and (theirs, rest) in other.placed for key, rest in privatives)


def _synonyms(one: Sentence, mine: int, place: int, other: Sentence, theirs: int) -> list[int]:
    """The places of words of a clause that are on the same side of a pair of opposites as a word of another."""
    if mine not in one.opposites or theirs not in other.opposites:
        return []
    signs = {sign for word in one.opposites[mine] if word.place == place for sign in word.plain}
    return [word.place for word in other.opposites[theirs] if not signs.isdisjoint(word.plain)]


def _denies(one: Sentence, mine: int, other: Sentence, theirs: int, *, least: int = 1) -> bool:
    """Whether a negation in a clause denies words, first among them the next two, that the other one doesn't deny.

    ``least``: how many of them the other one must have.
    """
    for scope in one.negations.get(mine, ()):
        found = [
            other.placed.get((theirs, one.tokens[place].key)) or _synonyms(one, mine, place, other, theirs)
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
