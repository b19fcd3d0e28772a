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

_ONE = {
    (kind, value): re.compile(rf"\b(?:an?|one) (?:{english})\b|一(?:{chinese})", re.IGNORECASE)
    for kind, value, english, chinese in (
        ("time", 3600.0, "hour", "小时|个小时|钟头"),
        ("time", 86400.0, "day", "天|日|昼夜"),
        ("time", 604800.0, "week", "周|星期|个星期"),
        ("time", 1209600.0, "fortnight", "个双周"),
        ("calendar", 1.0, "month", "个月"),
        ("calendar", 12.0, "year", "年"),
        ("calendar", 120.0, "decade", "个十年"),
        ("calendar", 1200.0, "century", "个世纪"),
    )
}
"""What a quantity is called that is one of a unit."""
_CAPITAL = re.compile(r"(?<![^\W_])[A-Z]")
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
        self._with_word: dict[str, list[int]] = {}
        for number, words in enumerate(self._words):
            for word in words:
                self._with_word.setdefault(word, []).append(number)
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
        found = [self._with_word[form] for form in self._forms.get(key, ()) if form in self._with_word]
        return found[0] if len(found) == 1 else sorted({number for numbers in found for number in numbers})

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
        return [(number, quantity) for number, said in self._said for quantity in said]

    @cached_property
    def _said(self) -> list[tuple[int, tuple[Quantity, ...]]]:
        return [(number, said) for number in self.where(NUMBER) for _, _, said in quantities_of(self.sentences[number])]

    def dated_otherwise(self, date: Sequence[Quantity]) -> bool:
        """Whether wherever a date's last part is said another year stands beside it, and nowhere the date's own."""
        same = [said for _, said in self._said if date[-1].said_by(said[-1])]
        return bool(same) and all(len(said) > 1 and not date[0].said_by(said[0]) for said in same)

    def reckoning(self, quantity: Quantity) -> set[int]:
        """The sentences of which two years, two times of day, or a year and a duration, give this duration or year.

        Or that have it in a word: "a day", of 24 hours.
        """
        if (one := _ONE.get((quantity.kind, quantity.value))) is not None and (
            named := {number for number, sentence in enumerate(self.sentences) if one.search(sentence)}
        ):
            return named
        if quantity.kind == "time":
            return {number for number, times in self._clocks.items() if _lasts(quantity, times)}
        return {number for number, (years, spans) in self._years.items() if _reckoned(quantity, years, spans)}

    @cached_property
    def _clocks(self) -> dict[int, set[float]]:
        found: dict[int, set[float]] = {}
        for number, quantity in self._by_kind.get("clock", ()):
            found.setdefault(number, set()).add(quantity.value)
        return {number: times for number, times in found.items() if len(times) > 1}

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

    def has_initials(self, letters: str) -> bool:
        """Whether these are the initials of a run of capitalised words."""
        return letters.upper() in self._capitals and letters in self._initials

    @cached_property
    def _capitals(self) -> str:
        return "".join("".join(_CAPITAL.findall(sentence)) + " " for sentence in self.sentences)

    @cached_property
    def _initials(self) -> frozenset[str]:
        return frozenset[str]().union(*map(initials_in, self.sentences))


@lru_cache(maxsize=32)
def evidence_of(text: str) -> Evidence:
    """The evidence of a text, kept for the next statements on it."""
    return Evidence(text)


def _lasts(quantity: Quantity, times: set[float]) -> bool:
    return any((one - other) % 1440 * 60 == quantity.value for one in times for other in times)


def _reckoned(quantity: Quantity, years: set[float], spans: set[float]) -> bool:
    if quantity.kind in ("calendar", "number"):
        value = quantity.value / 12 if quantity.kind == "calendar" else quantity.value
        if quantity.kind == "calendar" and value % 100 == 0 and 1000 <= value <= 2100:  # a century by its number
            return any(value - 100 < year <= value for year in years)
        return any(abs(one - other) == value for one in years for other in years)
    return quantity.kind == "year" and any(abs(quantity.value - year) in spans for year in years)
