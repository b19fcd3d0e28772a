"""Whether the parts of a statement stand in another order in the evidence: who did what to whom, what came first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lrf_overlap.comparison import Comparison
from lrf_overlap.sentence import Sentence

_CONVERSE_MARKERS = frozenset({"before", "after"})
_DATES = frozenset({"year", "month", "day", "clock"})


def is_converse(comparison: Comparison) -> bool:
    """Whether the statement tells an event from another party's side: one sells what the other one buys."""
    theirs = {sign for s, _ in comparison.theirs for sign in s.converses}
    return any((pair, -side) in theirs and (pair, side) not in theirs for pair, side in comparison.statement.converses)


def is_reversed(comparison: Comparison) -> bool:
    """Whether parts of the statement stand the other way round in the sentence that has most of it."""
    if not comparison.theirs:
        return False
    theirs, places = comparison.theirs[0]
    return _parties_reversed(comparison, theirs) or (
        not _same_order(comparison, theirs, places) and _order_reversed(comparison, theirs, places)
    )


def _same_order(comparison: Comparison, theirs: Sentence, places: Sequence[Sequence[int]]) -> bool:
    """Whether all parts stand once in a sentence and in the same order, as in most statements."""
    before = their = -1
    for rank, found in zip(comparison.statement.rank, places, strict=True):
        if found:
            if len(found) > 1 or rank < before or theirs.rank[found[0]] < their:
                return False
            before, their = rank, theirs.rank[found[0]]
    return True


def _parties_reversed(comparison: Comparison, theirs: Sentence) -> bool:
    """Whether two parties have changed sides of a preposition: "A reports to B", "B reports to A".

    They have, too, where they keep their sides of "before" in the one and of "after" in the other.
    """
    for marker, place in comparison.statement.markers:
        for other, at in theirs.markers:
            converse = {marker, other} == _CONVERSE_MARKERS
            if marker != other and not converse:
                continue
            timed = marker in _CONVERSE_MARKERS
            left, right = _sides_of(comparison.statement, place, timed=timed)
            their_left, their_right = _sides_of(theirs, at, timed=timed)
            if converse:
                if left & their_left and right & their_right and not (left & their_right or right & their_left):
                    return True
                continue
            same_side = left & their_left if _is_han(comparison.statement, place) else right & their_right
            if left & their_right and right & their_left and not same_side:
                return True
    return False


def _order_reversed(comparison: Comparison, theirs: Sentence, places: Sequence[Sequence[int]]) -> bool:
    """Whether three parts of a clause stand the other way round: "A beat B", "B beat A". Dates may stand anywhere.

    They must be in one clause there, too, unless the outer ones are names.
    """
    by_clause: dict[tuple[int, int], list[tuple[int, int]]] = {}
    names = set()
    for place, (token, found) in enumerate(zip(comparison.statement.tokens, places, strict=True)):
        date = token.kind == "number" and comparison.statement.quantities[place][0].kind in _DATES
        if (
            not found
            or date
            or place < comparison.statement.fronted
            or (token.kind != "number" and len(comparison.statement.places[token.key]) > 1)
        ):
            continue
        rank = comparison.statement.rank[place]
        clauses = [theirs.tokens[q].clause for q in found]
        listed, times = token.clause in comparison.statement.lists, Counter(clauses)
        for q, clause in zip(found, clauses, strict=True):
            if listed and clause in theirs.lists:
                continue
            if times[clause] == 1:
                by_clause.setdefault((token.clause, clause), []).append((rank, theirs.rank[q]))
        if len(found) == 1:
            by_clause.setdefault((token.clause, -1), []).append((rank, theirs.rank[found[0]]))
            if token.kind == "name":
                names.add(rank)
    return any(
        falls_between(sorted(pairs), names) if clause < 0 else falls_twice([v for _, v in sorted(pairs)])
        for (_, clause), pairs in by_clause.items()
        if len(pairs) > 2
    )


def _sides_of(sentence: Sentence, place: int, *, timed: bool) -> tuple[set[str], set[str]]:
    """The keys of the tokens before a preposition, and of the few after it; numbers only beside one of time."""
    tokens = sentence.tokens
    few = 5 if _is_han(sentence, place) else 4
    left = {token.key for token in tokens[:place] if timed or token.kind != "number"}
    right = {t.key for t in tokens[place : place + few] if t.clause == tokens[place].clause}
    return left, {key for key in right if timed or key[0] != "#"} - left


def _is_han(sentence: Sentence, place: int) -> bool:
    return place < len(sentence.tokens) and sentence.tokens[place].kind == "han"


def falls_twice(values: Sequence[int]) -> bool:
    """Whether three values, not next to one another in runs, fall: the longest falling subsequence has three blocks."""
    blocks = [v for n, v in enumerate(values) if n == 0 or v != values[n - 1] + 1]
    longest: list[int] = []
    for n, value in enumerate(blocks):
        longest.append(1 + max((longest[m] for m in range(n) if blocks[m] > value), default=0))
    return max(longest, default=0) >= 3


def falls_between(pairs: Sequence[tuple[int, int]], names: set[int]) -> bool:
    """Whether three values fall of which the first and the last are those of names."""
    return any(
        before > value > after
        for n, (first, before) in enumerate(pairs)
        if first in names
        for m in range(n + 2, len(pairs))
        if pairs[m][0] in names and (after := pairs[m][1]) < before
        for _, value in pairs[n + 1 : m]
    )
