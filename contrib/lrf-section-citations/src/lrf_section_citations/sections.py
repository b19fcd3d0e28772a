"""The sections that documents have, by their heading lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lrf.types import Document, Span
from lrf_section_citations.numbers import number_of

UNITS = {
    "section": "section",
    "sections": "section",
    "sec": "section",
    "secs": "section",
    "chapter": "chapter",
    "chapters": "chapter",
    "article": "article",
    "articles": "article",
    "part": "part",
    "parts": "part",
    "节": "section",
    "章": "chapter",
    "条": "article",
    "篇": "part",
    "部分": "part",
}
"""The words for kinds of sections. "第三节" and "section 3" are the same."""

NUMBER = r"\d{1,4}(?:\.\d{1,4}){0,5}"
CHINESE = rf"第\s?(?P<chinese>[零〇一二两三四五六七八九十百千]{{1,8}}|{NUMBER})\s?(?P<chinese_unit>部分|[节章条篇])"

_LINE = re.compile(r"^[^\n]{1,200}", re.MULTILINE)  # the start of a line, whatever its length
_MARKDOWN = re.compile(r"\s{0,3}#{1,6}\s+(?P<rest>\S.*?)[\s#]*$")
_NAMED = re.compile(
    rf"(?:(?P<unit>section|chapter|article|part)\s+(?P<number>{NUMBER})|{CHINESE})(?P<after>[\s.:：、—–-].*)?$",
    re.IGNORECASE,
)
_NUMBERED = re.compile(rf"(?P<number>{NUMBER})[.)、]?\s+(?P<title>\S.*)$")
_SENTENCE_ENDS = tuple(".。;；,，:：?？!！")


@dataclass(frozen=True, slots=True)
class Section:
    """A section by its heading.

    Parameters
    ----------
    number: such as "2.3"; None for a heading without one.
    unit: its kind: "section", "chapter", "article" or "part"; None if the heading names none.
    title: as :func:`folded` writes it; "" for a heading without one.
    span: the place of the heading line.
    """

    number: str | None
    unit: str | None
    title: str
    span: Span


def folded(title: str) -> str:
    """A title in lower case, with single spaces and no punctuation at its ends."""
    return " ".join(title.split()).strip(" .:：、—–-*_").casefold()


def sections_of(documents: Iterable[Document]) -> tuple[Section, ...]:
    """The sections of all documents, in order. A document's own title counts as one."""
    sections = []
    for document in documents:
        if document.title and document.text:
            sections.append(Section(None, None, folded(document.title), Span(document.id, 0, 1)))
        for line in _LINE.finditer(document.text):
            section = _section(line[0], Span(document.id, line.start(), line.end()))
            if section is not None:
                sections.append(section)
    return tuple(sections)


def _section(line: str, span: Span) -> Section | None:
    markdown = _MARKDOWN.match(line)
    text = (markdown["rest"] if markdown else line).strip()
    sentence = text.endswith(_SENTENCE_ENDS)
    named = _NAMED.match(text)
    if named is not None and (
        markdown or not sentence or named["chinese"]
    ):  # "第十二条 当事人应当……。" begins article 12
        number = number_of(named["number"] or named["chinese"])
        unit = UNITS[(named["unit"] or named["chinese_unit"]).casefold()]
        return Section(number, unit, "" if sentence else folded(named["after"] or ""), span)
    numbered = _NUMBERED.match(text)
    if numbered is not None and (markdown or _is_title(numbered["title"])):
        return Section(number_of(numbered["number"]), None, folded(numbered["title"]), span)
    return Section(None, None, folded(text), span) if markdown else None


def _is_title(text: str) -> bool:
    """Whether a numbered line is a heading, rather than an item of a list or a number in running text."""
    return len(text) <= 80 and text[0].isalpha() and not text[0].islower() and not text.endswith(_SENTENCE_ENDS)
