"""The sentences of an answer, with their places in it: statements that nobody has to write."""

from __future__ import annotations

import re
from typing import NamedTuple

_BLOCK = re.compile(r"[^\n]+")
_MARKER = re.compile(r"\s*(?:[#>|*•+–—-]+\s+|\(?\d{1,3}[.)、]\s*|[（(][一二三四五六七八九十\d]+[)）]\s*)*")
_END = re.compile(r"(?:[。！？；…]+|(?<![.!?])[.!?]++(?=[\"'”’)\]*_]*(?:\s|$)))[\"'”’)\]」』）】*_]*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|vs|etc|al|Fig|Eq|Sec|Vol|pp|cf|approx|Inc|Ltd|Co|Corp|U\.S|e\.g|i\.e)"
    r"|(?:^|[.:;!?]\s+)\d{1,3})\.$"  # the number of a list within a line
)
_LONGEST_ABBREVIATION = 24  # characters, more than any of them has
_WORDS = re.compile(r"[^\W_]")
_HEADING = re.compile(r"\s*(?:#{1,6}[ \t]+(?P<marked>.+)|\*\*(?P<bold>[^*]+)\*\*:?\s*)\Z")
_WORD = re.compile(r"[\u3400-\u9fff]{1,2}|[^\W_]+")
_LONGEST_TITLE = 3  # words, or pairs of Chinese characters


class Sentence(NamedTuple):
    """A sentence: ``text`` is exactly ``answer[start:end]``."""

    text: str
    start: int
    end: int


def sentences(answer: str) -> list[Sentence]:
    """The sentences of an answer in order, without marks of lists and headings in front, and without empty ones.

    A heading that is only a title ("## Answer") states nothing, so it is none: it would be found supported by any
    document with its word. One with more words, or with a digit, is.
    """
    sentences = []
    for block in _BLOCK.finditer(answer):
        if _is_title(block[0]):
            continue
        marker = _MARKER.match(answer, block.start(), block.end())
        start = marker.end() if marker else block.start()
        for end in [*_ends(answer, start, block.end()), block.end()]:
            sentence = _trimmed(answer, start, end)
            if _WORDS.search(sentence.text):
                sentences.append(sentence)
            start = end
    return sentences


def _is_title(line: str) -> bool:
    heading = _HEADING.match(line)
    text = (heading["marked"] or heading["bold"]) if heading else ""
    if not text or any(c.isdigit() for c in text) or _END.search(text):
        return False
    return len(_WORD.findall(text)) <= _LONGEST_TITLE


def _ends(answer: str, start: int, stop: int) -> list[int]:
    """Where sentences end within a line, its end left out."""
    ends = []
    for match in _END.finditer(answer, start, stop):
        before = answer[max(start, match.start() - _LONGEST_ABBREVIATION) : match.start() + 1]
        if match.end() < stop and not (match[0] == "." and _ABBREVIATION.search(before)):
            ends.append(match.end())
    return ends


def _trimmed(answer: str, start: int, end: int) -> Sentence:
    text = answer[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return Sentence(text, start, start + len(text))
