"""A text cut into sentences, and what each can be found by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from lrf.text.unicode import without_invisible
from lrf_overlap.lexicon import ZH_STOP
from lrf_overlap.numerals import CHINESE_NUMERALS

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""The ranges of Chinese characters, for a pattern's class."""
_WORD = re.compile(rf"[^\W_{HAN}]+(?:['’.&+-][^\W_{HAN}]+)*")
_PIECE = re.compile(
    rf"(?P<han>[{HAN}]+)|(?P<word>[^\W_{HAN}]+(?:['’.&+-][^\W_{HAN}]+)*)|(?P<stop>[,;:!?()，。；：！？、（）—…]|\.(?=\s|$))"
)
_ASCII_WORD = re.compile("[A-Za-z0-9]+(?:['.&+-][A-Za-z0-9]+)*")
_ASCII_PIECE = re.compile(rf"(?P<word>{_ASCII_WORD.pattern})|(?P<stop>[,;:!?()]|\.(?=\s|$))")
_HAN_RUN = re.compile(f"[{HAN}]+")
_END = re.compile(r"[.!?;:。！？；：\n][\"'”’)\]」』）]*\s*")
_PLAIN_END = re.compile(r"[。！？；][\"'”’)\]」』）]* ?|[.!?;][\"'”’)\]」』）]* (?![a-z])")
_WHITE = re.compile(r"[^\S ]|  ")
_ITEM = re.compile(r"(?:[-*#•|]|\d{1,3}[.)]\s)")
_AT_MOST = re.compile(r"\b(?:no|not) (?:more|less|fewer|later|earlier|longer|larger|smaller|higher|lower) than\b", re.I)
_WEEKDAY = re.compile("(?:周|礼拜)([一二三四五六日天])(?![个年])")
_LONGEST = 1_000
"""Characters of a sentence; a text without an end of a sentence is cut."""


def split(text: str) -> list[str]:
    """The sentences of a text, normalised: characters in their usual form, lines that a page broke joined."""
    if " than" in text:
        text = _AT_MOST.sub("at most", text)
    if not text.isascii():
        text = without_invisible(unicodedata.normalize("NFKC", text))
        if "周" in text or "礼拜" in text:
            text = _WEEKDAY.sub(r"星期\1", text)
    plain = _WHITE.search(text) is None
    if plain:
        ends = [match.end() for match in _PLAIN_END.finditer(text)]
    else:
        ends = [match.end() for match in _END.finditer(text) if _ends(match, text)]
    sentences = [text[start:end] for start, end in pairwise((0, *ends, len(text)))]
    sentences = [s.strip() for s in sentences] if plain else [" ".join(s.split()) for s in sentences]
    return [s[at : at + _LONGEST] for s in sentences if s for at in range(0, len(s), _LONGEST)]


def _ends(match: re.Match[str], text: str) -> bool:
    """Whether a sentence ends with this mark and the white space after it."""
    mark, lines, following = match[0][0], match[0].count("\n"), text[match.end() : match.end() + 1]
    if mark in "。！？；" or lines > 1 or not following:
        return True
    if lines:
        return mark in ".!?:：" or _ITEM.match(text, match.end()) is not None
    return mark in ".!?;" and match[0][-1].isspace() and not following.islower()


NUMERALS = re.compile(f"[{CHINESE_NUMERALS}半第]|过半")
_STOPS = str.maketrans("", "", "".join(ZH_STOP))
_CAPITALS = re.compile(r"(?:[A-Z][^\W_]*(?:['’.&+-][^\W_]+)*(?: (?:of|the|and|for))*[ ,]*){2,}")


def pieces_in(text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """The runs of Chinese characters, the words, and the marks that may end a clause, as the groups of these names."""
    return (_ASCII_PIECE if text.isascii() else _PIECE).finditer(text, start, end)


def words_in(sentence: str) -> set[str]:
    """The words of a sentence as they are written."""
    return set((_ASCII_WORD if sentence.isascii() else _WORD).findall(sentence))


def han_in(sentence: str) -> str:
    """The Chinese characters of a sentence that have content, runs of neighbours apart."""
    if sentence.isascii():
        return ""
    return " ".join(run.translate(_STOPS) or run for run in _HAN_RUN.findall(sentence))


def initials_in(sentence: str) -> set[str]:
    """The initials of the runs of capitalised words in a sentence."""
    runs = ([w[0] for w in _WORD.findall(m[0]) if w[0].isupper()] for m in _CAPITALS.finditer(sentence))
    return {"".join(run).lower() for run in runs if len(run) > 1}
