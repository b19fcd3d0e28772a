"""A sentence of a statement beside the sentences of the evidence that have most of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from lrf_overlap.evidence import Evidence
from lrf_overlap.quantity import Quantity
from lrf_overlap.sentence import Sentence, Token
from lrf_overlap.sentences import analysed
from lrf_overlap.words import stem

_WEEKDAYS = frozenset(map(stem, ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]))
_PLACES = 50
"""Places of a token in a sentence at most; one that stands in more is at none in particular."""
_SENTENCES = 3
"""Sentences of the evidence at most that a statement is compared with in detail."""


class Comparison:
    """One sentence of a statement beside the sentences of the evidence that have most of it.

    Attributes
    ----------
    shares: for each token the sentences that have it, with how surely, 0 to 1.
    best: the numbers of the sentences that together have most of the statement, the best first.
    theirs: these sentences, each with the places of each token in it.
    here, anywhere: how surely each token is in one of the best, and in any.
    counts: for each clause of the statement how many of its tokens each clause of these sentences has.
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
        self.counts = [self._counts(clause) for clause in statement.clauses]
        self.cover = [self._cover(*both) for both in zip(statement.clauses, self.counts, strict=True)]

    def _counts(self, clause: range) -> dict[tuple[int, int], int]:
        """By the sentence's number in ``theirs`` and the clause."""
        counts: dict[tuple[int, int], int] = {}
        for n, (sentence, places) in enumerate(self.theirs):
            tokens = sentence.tokens
            for place in clause:
                for c in {tokens[q].clause for q in places[place]} if places[place] else ():
                    counts[n, c] = counts.get((n, c), 0) + 1
        return counts

    def _cover(self, clause: range, counts: Mapping[tuple[int, int], int]) -> list[tuple[int, int, float]]:
        """The sentence's number, the clause and its share: the best one, and others nearly as good."""
        most = max(counts.values(), default=0)
        return [(n, c, count / len(clause)) for (n, c), count in counts.items() if count >= 0.8 * most]

    def _shares(self, place: int, token: Token) -> dict[int, float]:
        if token.kind == "number":
            return self._number_shares(self.statement.quantities[place])
        where = self.evidence.where
        exact = where(token.key)
        if token.kind == "han" and len(token.key) == 2 and not exact:
            one, two = (where("=" + c) for c in token.key)
            return dict.fromkeys(set(one).intersection(two), 0.5)
        shares = dict.fromkeys(exact, 1.0)
        if token.soft:
            shares = dict.fromkeys(where(token.soft), 0.7) | shares
        if token.kind == "name" and not shares and (self._abbreviated(token) or self._other_kind(token)):
            return dict.fromkeys(range(len(self.evidence.sentences)), 1.0)
        return shares

    def _number_shares(self, said: Sequence[Quantity]) -> dict[int, float]:
        """The sentences with a quantity, or with parts of a date. A date's year may stand in another sentence."""
        by_part = [self.evidence.saying(quantity) for quantity in said]
        if len(said) == 1:
            return dict.fromkeys(by_part[0] or self.evidence.reckoning(said[0]), 1.0)
        whole = all(by_part) and not self.evidence.dated_otherwise(said)
        counts = Counter(number for numbers in by_part for number in numbers)
        return {number: 1.0 if whole else count / len(said) for number, count in counts.items()}

    def _abbreviated(self, token: Token) -> bool:
        """Whether the evidence has the name's initials, or the name is made of the evidence's."""
        return self.evidence.has_initials(token.key) or any(map(self.evidence.where, self.statement.initials))

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
