"""The sections that an answer cites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lrf_section_citations.numbers import number_of
from lrf_section_citations.sections import CHINESE, NUMBER, UNITS, Section, folded

_UNIT = r"(?P<unit>sections?|secs?\.?|chapters?|articles?|parts?)"
_BY_NUMBER = re.compile(
    rf"(?:\b{_UNIT}\s*|§§?\s*)(?P<numbers>{NUMBER}(?:\s*(?:,|and|or|&|,\s*and)\s*{NUMBER})*)(?!\.?\d)|{CHINESE}",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"(?P<before>\b(?:section|chapter|article|part)\s+(?:on\s+|called\s+|titled\s+)?)?"
    r"(?:\"(?P<a>[^\"\n]{1,120})\"|“(?P<b>[^”\n]{1,120})”|「(?P<c>[^」\n]{1,120})」|《(?P<d>[^》\n]{1,120})》)"
    r"(?P<after>\s*(?:section\b|chapter\b|一?[节章]))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation in the answer's words, and the first section that it can mean; None if the documents lack it."""

    text: str
    section: Section | None


def citations_of(answer: str, sections: Iterable[Section]) -> tuple[Citation, ...]:
    """The distinct citations of an answer: those by number, then those by title, each in the answer's order.

    A number cites a section of that number; where both have a kind ("chapter"), the kinds must agree. Text in quotation
    marks is a citation if a section has that title, or if the answer calls it a section.
    """
    known = tuple(sections)
    citations: dict[tuple[str | None, str], Citation] = {}
    for unit, number in _numbers(answer):
        section = next((s for s in known if s.number == number and _same_unit(s.unit, unit)), None)
        citations.setdefault((unit, number), Citation(f"{unit or '§'} {number}", section))
    for match in _QUOTED.finditer(answer):
        title = folded(match["a"] or match["b"] or match["c"] or match["d"])
        section = next((s for s in known if title and s.title == title), None)
        if section is not None or (title and (match["before"] or match["after"])):
            citations.setdefault(("title", title), Citation(match[0].strip(), section))
    return tuple(citations.values())


def _numbers(answer: str) -> Iterator[tuple[str | None, str]]:
    for match in _BY_NUMBER.finditer(answer):
        word = match["chinese_unit"] or match["unit"]
        unit = UNITS[word.rstrip(".").casefold()] if word else None  # "§" names no kind
        for text in [match["chinese"]] if match["chinese"] else re.findall(NUMBER, match["numbers"]):
            if (number := number_of(text)) is not None:
                yield unit, number


def _same_unit(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other
