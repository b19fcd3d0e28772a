"""What a statement has that its evidence lacks or contradicts, as a few numbers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence, Set

from lrf_overlap.alignment import differences, pieces_of
from lrf_overlap.evidence import Evidence
from lrf_overlap.order import falls_between, falls_twice
from lrf_overlap.quantity import Quantity
from lrf_overlap.scope import added, conflict
from lrf_overlap.sentences import Sentence, Token, analysed
from lrf_overlap.splitting import split
from lrf_overlap.words import stem

FEATURES = (
    "number", "number_elsewhere", "name", "name_elsewhere", "foreign", "denied", "reversed", "exchanged", "scope",
    "scope_added",
    "renamed", "renumbered", "opposed", "swapped",
)  # fmt: skip
"""The names of the features, in order. Each is 0 where nothing is wrong, and 1 at most."""

_WEEKDAYS = frozenset(map(stem, ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]))
_NEARBY = 0.6
"""How surely a clause is denied by one that has less of it than others."""
_SURE = 0.7
"""The share of a clause from which on it surely speaks of the same thing."""
_NOTHING: frozenset[str] = frozenset()
_EXCEPT = frozenset({"except"})
_DATES = frozenset({"year", "month", "day", "clock"})
_FEW_WORDS = 3
"""Words with content below which it says little that the evidence has none of them."""
_PRONOUN = re.compile("\\b(?:he|she|it|they|him|her|his|their|its|them)\\b|[他她它其该]", re.IGNORECASE)
_PLACES = 50
"""Places of a token in a sentence at most; one that stands in more is at none in particular."""
_SENTENCES = 3
"""Sentences of the evidence at most that a statement is compared with in detail."""


def features(evidence: Evidence, statement: str) -> tuple[float, ...]:
    """The values of :data:`FEATURES` for a statement."""
    comparisons = [_Comparison(evidence, sentence) for sentence in split(statement) if analysed(sentence).tokens]
    if not comparisons:
        return tuple(float(name == "foreign") for name in FEATURES)
    weights = [len(c.statement.tokens) for c in comparisons]
    rows = [c.values() for c in comparisons]
    return tuple(
        sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights) if name == "foreign" else max(column)
        for name, column in zip(FEATURES, zip(*rows, strict=True), strict=True)
    )


class _Comparison:
    """One sentence of a statement beside the sentences of the evidence that have most of it.

    Attributes
    ----------
    shares: for each token the sentences that have it, with how surely, 0 to 1.
    best: the numbers of the sentences that together have most of the statement, the best first.
    theirs: these sentences, each with the places of each token in it.
    here, anywhere: how surely each token is in one of the best, and in any.
    cover: for each clause of the statement the clauses that have most of it, with the share of it that each has.
    """

    def __init__(self, evidence: Evidence, text: str) -> None:
        self.evidence, self.text = evidence, text
        self.statement = statement = analysed(text)
        self.shares = [self._shares(p, t) for p, t in enumerate(statement.tokens)]
        self.best = self._best()
        self.theirs = [(s, self._places(s)) for s in (analysed(evidence.sentences[n]) for n in self.best)]
        self.here = [max([s.get(n, 0.0) for n in self.best], default=0.0) if s else 0.0 for s in self.shares]
        self.anywhere = [max(s.values()) if s else 0.0 for s in self.shares]
        self.cover = [self._cover(clause) for clause in statement.clauses]

    def values(self) -> tuple[float, ...]:
        kinds = [t.kind for t in self.statement.tokens]
        numbers = [p for p, kind in enumerate(kinds) if kind == "number"]
        names = [p for p, kind in enumerate(kinds) if kind == "name"]
        others = [found for found, kind in zip(self.anywhere, kinds, strict=True) if kind != "number"]
        return (
            _missing([self._number_found(p) for p in numbers]),
            _missing([self.here[p] if self.anywhere[p] else 1.0 for p in numbers]),
            _missing([self.anywhere[p] for p in names]),
            _missing([self.here[p] if self.anywhere[p] else 1.0 for p in names]) * self._named(),
            (1.0 - sum(others) / len(others)) ** 5 * min(1.0, len(others) / _FEW_WORDS) if others else 0.0,
            *self._turned(),
            self._exchanged(),
            *self._scopes(),
            *self._differences(),
        )

    def _differences(self) -> tuple[float, ...]:
        candidates = [pieces_of(self.evidence.sentences[n]) for n in self.best]
        return differences(pieces_of(self.text), candidates, self.evidence.text)

    def _cover(self, clause: range) -> list[tuple[int, int, float]]:
        """The sentence's number in ``theirs``, the clause and its share: the best one, and others nearly as good."""
        counts: Counter[tuple[int, int]] = Counter()
        for n, (sentence, places) in enumerate(self.theirs):
            tokens = sentence.tokens
            for place in clause:
                if found := places[place]:
                    counts.update({(n, tokens[q].clause) for q in found})
        if not counts:
            return []
        most = max(counts.values())
        return [(n, c, count / len(clause)) for (n, c), count in counts.items() if count >= 0.8 * most]

    def _scopes(self) -> tuple[float, float]:
        """How far the statement speaks of more or less than the evidence does, and how much of that is its own."""
        different, own = 0.0, 0.0
        for clause, covers in zip(self.statement.clauses, self.cover, strict=True):
            mine = _scopes_of(self.statement, self.statement.tokens[clause.start].clause)
            if not mine or not covers:
                continue
            pairs = [(_scopes_of(self.theirs[n][0], c), share) for n, c, share in covers]
            different = max(different, min(conflict(mine, theirs) * min(1.0, share / _SURE) for theirs, share in pairs))
            own = max(own, min(added(mine, theirs) for theirs, _ in pairs))
        return different, own

    def _named(self) -> float:
        """How much it says that a name is elsewhere: little where a pronoun may stand for it."""
        return 0.3 if any(_PRONOUN.search(self.evidence.sentences[n]) for n in self.best) else 1.0

    def _number_found(self, place: int) -> float:
        """How surely the evidence has a number. One hour may be "an hour" or "hourly", so 1 is never all lost."""
        said = self.statement.quantities[place][0]
        if said.kind == "ordinal" and said.value <= 3:  # "next", "the runner-up"
            return max(self.anywhere[place], 0.5)
        return max(self.anywhere[place], 0.85 * (place in self.statement.ones))

    def _shares(self, place: int, token: Token) -> dict[int, float]:
        if token.kind == "number":
            return self._number_shares(self.statement.quantities[place])
        where = self.evidence.where
        exact = where(token.key)
        if token.kind == "han" and len(token.key) == 2 and not exact:
            one, two = (where("=" + c) for c in token.key)
            return dict.fromkeys(set(one).intersection(two), 0.5)
        shares = dict.fromkeys(where(token.soft), 0.7) if token.soft else {}
        shares.update(dict.fromkeys(exact, 1.0))
        if token.kind == "name" and not shares and (self._abbreviated(token) or self._other_kind(token)):
            return dict.fromkeys(range(len(self.evidence.sentences)), 1.0)
        return shares

    def _number_shares(self, said: Sequence[Quantity]) -> dict[int, float]:
        """The sentences with a quantity, or with parts of a date. A date's year may stand in another sentence."""
        by_part = [self.evidence.saying(quantity) for quantity in said]
        if len(said) == 1:
            return dict.fromkeys(by_part[0] or self.evidence.reckoning(said[0]), 1.0)
        counts = Counter(number for numbers in by_part for number in numbers)
        return {number: 1.0 if all(by_part) else count / len(said) for number, count in counts.items()}

    def _abbreviated(self, token: Token) -> bool:
        """Whether the evidence has the name's initials, or the name is made of the evidence's."""
        return token.key in self.evidence.initials or any(map(self.evidence.where, self.statement.initials))

    def _other_kind(self, token: Token) -> bool:
        """Whether it is a day of the week, and the evidence names none."""
        return token.key in _WEEKDAYS and not any(map(self.evidence.where, _WEEKDAYS))

    def _best(self) -> list[int]:
        covered, best = [0.0] * len(self.shares), list[int]()
        for _ in range(_SENTENCES):
            gains: dict[int, float] = defaultdict(float)
            for before, shares in zip(covered, self.shares, strict=True):
                for number, share in shares.items():
                    if share > before:
                        gains[number] += share - before
            if not gains:
                break
            most = max(gains.values())
            if best and most < max(0.8, 0.08 * len(self.shares)):
                break
            number = min(n for n, gain in gains.items() if gain == most)
            best.append(number)
            covered = [max(c, s.get(number, 0.0)) for c, s in zip(covered, self.shares, strict=True)]
        return best

    def _places(self, theirs: Sentence) -> list[list[int]]:
        """For each token of the statement its first places in a sentence of the evidence."""
        said = {place: quantities[0] for place, quantities in self.statement.quantities.items()}
        by_quantity = {
            quantity: [p for p, others in theirs.quantities.items() if any(quantity.said_by(o) for o in others)]
            for quantity in set(said.values())
        }
        return [
            (by_quantity[said[place]] if token.kind == "number" else theirs.places.get(token.key, []))[:_PLACES]
            for place, token in enumerate(self.statement.tokens)
        ]

    def _turned(self) -> tuple[float, float]:
        """Whether the statement denies what the evidence says, and whether the order of its parts is reversed.

        "A is larger than B" and "B is smaller than A" are both, and say the same.
        """
        denied, reversed_ = self._denied(), self._reversed()
        if reversed_ and (denied or self._converse()):
            return 0.0, 0.0
        return denied, float(reversed_)

    def _converse(self) -> bool:
        """Whether the statement tells an event from another party's side: one sells what the other one buys."""
        theirs = {sign for s, _ in self.theirs for sign in s.converses}
        return any((pair, -side) in theirs and (pair, side) not in theirs for pair, side in self.statement.converses)

    def _denied(self) -> float:
        """How surely a clause denies what the clause of the evidence says that has most of it, or the reverse.

        Two differences of that kind cancel each other: "none is more than", "all are within".
        """
        most = 0.0
        for clause, covers in zip(self.statement.clauses, self.cover, strict=True):
            mine = self.statement.tokens[clause.start].clause
            values = [min(1.0, share / _SURE) if self._differ(mine, n, c) else 0.0 for n, c, share in covers]
            most = max(most, min(values, default=0.0) or _NEARBY * self._denied_nearby(mine))
        return most

    def _denied_nearby(self, mine: int) -> bool:
        """Whether any clause denies what this one says: "to the shop, never to the hall"."""
        return any(
            _denies(theirs, clause, self.statement, mine)
            for theirs, _ in self.theirs
            for clause in {theirs.tokens[scope[0]].clause for scope in theirs.negations if scope}
        ) or any(
            _denies(self.statement, mine, theirs, clause, least=2)
            for theirs, _ in self.theirs[:1]
            for clause in {token.clause for token in theirs.tokens}
        )

    def _differ(self, mine: int, n: int, theirs: int) -> bool:
        sentence = self.theirs[n][0]
        stated, said = _sides(self.statement, mine), _sides(sentence, theirs)
        turned = sum(p in said and not stated[p] & said[p] for p in stated)
        if turned:  # sides are turned by negations already
            return turned % 2 == 1
        return _denies(self.statement, mine, sentence, theirs) or _denies(sentence, theirs, self.statement, mine)

    def _reversed(self) -> bool:
        """Whether parts of the statement stand the other way round in the sentence that has most of it."""
        if not self.theirs:
            return False
        theirs, places = self.theirs[0]
        return self._parties_reversed(theirs) or self._order_reversed(theirs, places)

    def _parties_reversed(self, theirs: Sentence) -> bool:
        """Whether two parties have changed sides of a preposition: "A reports to B", "B reports to A"."""
        same = ((p, q) for marker, p in self.statement.markers for other, q in theirs.markers if other == marker)
        for place, at in same:
            (left, right), (their_left, their_right) = _sides_of(self.statement, place), _sides_of(theirs, at)
            same_side = left & their_left if _is_han(self.statement, place) else right & their_right
            if left & their_right and right & their_left and not same_side:
                return True
        return False

    def _order_reversed(self, theirs: Sentence, places: Sequence[Sequence[int]]) -> bool:
        """Whether three parts of a clause stand the other way round: "A beat B", "B beat A". Dates may stand anywhere.

        They must be in one clause there, too, unless the outer ones are names.
        """
        by_clause: dict[tuple[int, int], list[tuple[int, int]]] = {}
        names = set()
        for place, (token, found) in enumerate(zip(self.statement.tokens, places, strict=True)):
            date = token.kind == "number" and self.statement.quantities[place][0].kind in _DATES
            if (
                not found
                or date
                or place < self.statement.fronted
                or (token.kind != "number" and len(self.statement.places[token.key]) > 1)
            ):
                continue
            rank = self.statement.rank[place]
            clauses = [theirs.tokens[q].clause for q in found]
            listed, times = token.clause in self.statement.lists, Counter(clauses)
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

    def _exchanged(self) -> float:
        """The share of a clause that a clause of the evidence has, too, but with another part in the place of one.

        Only parts count that the evidence has elsewhere: others may be other words for the same.
        """
        return max(
            (
                self._one_part(clause, places, other)
                for clause in self.statement.clauses
                if len(clause) > 2
                for theirs, places in self.theirs
                for other in theirs.clauses
            ),
            default=0.0,
        )

    def _one_part(self, clause: range, places: Sequence[Sequence[int]], other: range) -> float:
        """The share of the clause that the other one has around one part; 0 without such a part, or below a third."""
        start, stop = other.start, other.stop
        same = [[q for q in places[p] if start <= q < stop] if places[p] else () for p in clause]
        known = len(same) - same.count([]) - same.count(())
        if known == len(same) or known * 3 < len(same):
            return 0.0
        first = next(n for n, found in enumerate(same) if not found)
        stop = next((n for n in range(first, len(same)) if same[n]), len(same))
        before = max(same[first - 1]) if first else other.start - 1
        after = min(same[stop]) if stop < len(same) else other.stop
        part = range(clause.start + first, clause.start + stop)
        edge = first == 0 or stop == len(same)
        if not 1 < after - before <= 7 or len(part) > 5:
            return 0.0
        if self.statement.tokens[part[0]].kind == "han":
            if edge and (known < 0.6 * len(same) or len(same) < 4):
                return 0.0
            inner = part[1:-1] if not edge and len(part) > 2 else part  # pairs at its ends have a character outside
            return known / len(same) if any(self.anywhere[p] == 1.0 for p in inner) else 0.0
        if any(self.anywhere[p] < 1.0 for p in part):
            return 0.0
        return known / len(same)


def _scopes_of(sentence: Sentence, clause: int) -> Set[str]:
    """What a clause says of how much, and whether its sentence makes an exception."""
    scopes = sentence.scopes.get(clause, _NOTHING)
    return scopes | _EXCEPT if any("except" in other for other in sentence.scopes.values()) else scopes


def _sides_of(sentence: Sentence, place: int) -> tuple[set[str], set[str]]:
    """The keys of the tokens before a preposition, and of the few after it."""
    tokens = sentence.tokens
    left = {token.key for token in tokens[:place] if token.kind != "number"}
    few = 5 if _is_han(sentence, place) else 4
    right = {t.key for t in tokens[place : place + few] if t.clause == tokens[place].clause and t.kind != "number"}
    return left, right - left


def _is_han(sentence: Sentence, place: int) -> bool:
    return place < len(sentence.tokens) and sentence.tokens[place].kind == "han"


def _sides(sentence: Sentence, clause: int) -> dict[int, set[int]]:
    """For each pair of opposites of which a clause has one word its side: "wet papers are dried" has two."""
    if not sentence.opposites:
        return {}
    found = [(pair, side) for pair, side, place in sentence.opposites if place == clause]
    times = Counter(pair for pair, _ in found)
    return {pair: {side} for pair, side in found if times[pair] == 1}


def _denies(one: Sentence, mine: int, other: Sentence, theirs: int, *, least: int = 1) -> bool:
    """Whether a negation in a clause denies words, first among them the next two, that the other one doesn't deny.

    ``least``: how many of them the other one must have.
    """
    for scope in one.negations:
        if not scope or one.tokens[scope[0]].clause != mine:
            continue
        found = [
            [p for p in other.places.get(one.tokens[place].key, ()) if other.tokens[p].clause == theirs]
            for place in scope
        ]
        places = [p for some in found for p in some]
        han = one.tokens[scope[0]].kind == "han"
        needed = sum(map(bool, found[:3])) >= min(2, len(found)) if han else bool(found[0]) and any(found[1:3] or found)
        if (
            sum(map(bool, found)) >= least
            and needed
            and theirs not in other.refusing
            and not any(p in other.denied for p in places)
        ):
            return True
    return False


def _missing(found: Sequence[float]) -> float:
    """0 if everything was found; else from 0.5, for a part of it, to 1, for all."""
    lost = sum(1.0 - f for f in found)
    return min(1.0, lost) * 0.5 + 0.5 * lost / len(found) if lost else 0.0
