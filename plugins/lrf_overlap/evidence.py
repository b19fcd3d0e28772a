"""A text that statements are compared with, so that a sentence is analysed only where it has much of a statement."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import accumulate

from lrf_overlap.numerals import FIRST_HAN
from lrf_overlap.quantities import quantities_of
from lrf_overlap.quantity import COMPARABLE, Quantity
from lrf_overlap.splitting import NUMERALS, han_in, initials_in, split, words_in
from lrf_overlap.words import NUMBER, vocabulary_with

_MARK = re.compile(r"^[ \t]*\[[^\]\n]{0,2}\d{1,4}\]", re.MULTILINE)


class Evidence:
    """A text that statements are compared with: its sentences, and where each word and quantity is.

    Words are looked for in all sentences; only those that have most of a statement are analysed.
    """

    def __init__(self, text: str) -> None:
        self.sentences = split(_MARK.sub("", text) if "[" in text else text)
        self._words = [words_in(sentence) for sentence in self.sentences]
        han = [han_in(sentence) for sentence in self.sentences]
        self._han = "\n".join(han)
        self._han_starts = [0, *accumulate(len(runs) + 1 for runs in han)]
        self._forms = vocabulary_with(frozenset[str]().union(*self._words)).forms
        self._where: dict[str, list[int]] = {}
        self._saying: dict[Quantity, set[int]] = {}

    def where(self, key: str) -> Sequence[int]:
        """The numbers of the sentences that have a key."""
        known = self._where.get(key)
        if known is None:
            known = self._where[key] = self._look_for(key)
        return known

    def _look_for(self, key: str) -> list[int]:
        if key[0] == "=" or key[0] >= FIRST_HAN:
            return self._with_han(key.removeprefix("="))
        if key == NUMBER:
            forms = self._forms.get(key, frozenset[str]())
            both = zip(self._words, self.sentences, strict=True)
            return [n for n, (words, s) in enumerate(both) if not forms.isdisjoint(words) or NUMERALS.search(s)]
        forms = self._forms.get(key, frozenset[str]())
        return [n for n, words in enumerate(self._words) if not forms.isdisjoint(words)] if forms else []

    def _with_han(self, characters: str) -> list[int]:
        found: list[int] = []
        at = self._han.find(characters)
        while at >= 0:
            found.append(bisect_right(self._han_starts, at) - 1)
            at = self._han.find(characters, self._han_starts[found[-1] + 1])
        return found

    def saying(self, quantity: Quantity) -> set[int]:
        """The numbers of the sentences that say a quantity."""
        known = self._saying.get(quantity)
        if known is None:
            known = self._saying[quantity] = self._look_for_quantity(quantity)
        return known

    def _look_for_quantity(self, quantity: Quantity) -> set[int]:
        if quantity.kind == "number":  # it may be any quantity's, without its unit
            return {number for number, other in self._quantities if quantity.said_by(other)}
        kinds = (quantity.kind, "number", *COMPARABLE.get(quantity.kind, ()))
        candidates = (found for kind in kinds for found in self._by_kind.get(kind, ()))
        return {number for number, other in candidates if quantity.said_by(other)}

    @cached_property
    def _by_kind(self) -> dict[str, list[tuple[int, Quantity]]]:
        found: dict[str, list[tuple[int, Quantity]]] = {}
        for number, quantity in self._quantities:
            found.setdefault(quantity.kind, []).append((number, quantity))
        return found

    @cached_property
    def text(self) -> str:
        """The sentences, without spaces."""
        return "".join(self.sentences).replace(" ", "")

    @cached_property
    def _quantities(self) -> list[tuple[int, Quantity]]:
        return [
            (number, quantity)
            for number in self.where(NUMBER)
            for _, _, said in quantities_of(self.sentences[number])
            for quantity in said
        ]

    def reckoning(self, quantity: Quantity) -> set[int]:
        """The sentences of which two years, or a year and a duration, give this duration or this year."""
        return {number for number, (years, spans) in self._years.items() if _reckoned(quantity, years, spans)}

    @cached_property
    def _years(self) -> dict[int, tuple[set[float], set[float]]]:
        """For each sentence with a year its years, and its durations in years."""
        found: dict[int, tuple[set[float], set[float]]] = {}
        for number, quantity in self._quantities:
            years, spans = found.setdefault(number, (set(), set()))
            if quantity.kind == "year":
                years.add(quantity.value)
            elif quantity.kind == "calendar":
                spans.add(quantity.value / 12)
        return {number: parts for number, parts in found.items() if parts[0]}

    @cached_property
    def initials(self) -> frozenset[str]:
        """The initials of runs of capitalised words."""
        return frozenset[str]().union(*map(initials_in, self.sentences))


@lru_cache(maxsize=32)
def evidence_of(text: str) -> Evidence:
    """The evidence of a text, kept for the next statements on it."""
    return Evidence(text)


def _reckoned(quantity: Quantity, years: set[float], spans: set[float]) -> bool:
    if quantity.kind in ("calendar", "number"):
        value = quantity.value / 12 if quantity.kind == "calendar" else quantity.value
        if quantity.kind == "calendar" and value % 100 == 0 and 1000 <= value <= 2100:  # a century by its number
            return any(value - 100 < year <= value for year in years)
        return any(abs(one - other) == value for one in years for other in years)
    return quantity.kind == "year" and any(abs(quantity.value - year) in spans for year in years)
