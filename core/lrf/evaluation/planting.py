"""True sentences of a document, changed by rules: said otherwise but still true, or wrong in a known way.

English and Chinese. A rule that doesn't fit a sentence gives None, so that every planted error is one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lrf.text.languages import language_of

KINDS = ("number", "date", "entity", "negation", "relation", "scope", "other document")
"""The kinds of planted errors."""

_END = re.compile(r"[.](?![\w.])|[!?。！？\n]")
_BAD_START = re.compile(r"^\s*(?:[-*+#>|`\[(<]|\d+[.)]\s|https?:)")
_VAGUE = re.compile(
    r"^(?:it|he|she|they|this|these|those|that|but|and|or|so|then|here|there|however|also|thus|otherwise|both)\b"
    r"|^(?:它|他|她|这|那|但|而|所以|因此|并且|然而|此外|同时|其)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
LENGTHS = {"en": (35, 260), "zh": (12, 110)}
"""Characters of a sentence that is used."""


@dataclass(frozen=True, slots=True)
class TrueSentence:
    """A sentence of a document.

    ``start`` is the character at which it begins. ``plain_start``: its first word is no name, so that it loses its
    capital inside another sentence.
    """

    text: str
    start: int
    language: str
    plain_start: bool = False


def true_sentences(text: str) -> list[TrueSentence]:
    """The sentences of a document that can stand alone as a statement, in order."""
    language = language_of(text)
    low, high = LENGTHS[language]
    lower = set(re.findall(r"(?<![\w-])[a-z][a-z'-]*", text)) | {"the", "a", "an", "each", "every", "all", "no"}
    text = _FENCE.sub(lambda fence: "\n" * len(fence[0]), text)  # code is no prose
    sentences = []
    begin = 0
    for end in _END.finditer(text):
        raw = text[begin : end.end()]
        start = begin + len(raw) - len(raw.lstrip())
        begin = end.end()
        sentence = raw.strip()
        if (
            end[0] not in ".。"
            or not low <= len(sentence) <= high
            or _BAD_START.match(sentence)
            or _VAGUE.match(sentence)
        ):
            continue
        if any(mark in sentence for mark in "|`[]{}<>*_#:：") or sentence.count("(") != sentence.count(")"):
            continue
        if language == "en" and not _is_prose(sentence):
            continue
        first = re.match(r"[A-Za-z'-]*", sentence)
        plain = first is not None and first[0].lower() in lower
        sentences.append(TrueSentence(sentence, start, language, plain))
    return sentences


def _is_prose(sentence: str) -> bool:
    """Whether it begins with a capital and most of its words don't, as in no heading and no bibliography."""
    words = re.findall(r"[^\W\d_][\w'’-]*", sentence)
    if not words or not sentence[0].isupper() or words[-1] in ("pp", "al", "vol", "no", "ed", "eds"):
        return False
    small = [word for word in words if word[0].islower()]
    return len(small) >= 0.6 * len(words)


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Words with their replacements, from ``a/b, c/d``."""
    words = [pair.strip().partition("/") for pair in text.split(",")]
    return tuple((word, other) for word, _, other in words)


# --- still true ---------------------------------------------------------------------------------------------------

_SYNONYMS = {
    "en": _pairs(
        r"""
        about(?= \d)/approximately, because/since, began/started, begins/starts, shows/demonstrates,
        showed/demonstrated, uses/makes use of, large/big, however/nevertheless, often/frequently,
        kept/retained, built/constructed, bought/purchased, the whole/the entire, nearly/almost
        """
    ),
    "zh": _pairs(
        r"""
        因为/由于, 大约/约, 开始/着手, 必须/需要, 但是/不过, 如果/倘若, 每天/每日, 建成/建好,
        购买/买入, 发现/察觉, 共有/总共有, 位于/坐落于
        """
    ),
}
_LEADING = re.compile(r"^((?:In|On|At|After|Before|During|Since|Until|By|For) [^,]{3,60}), (\S)([^.]*)\.$")


def paraphrased(sentence: TrueSentence) -> str:
    """The sentence in other words with the same meaning: a phrase moved, synonyms, and who says so."""
    text = sentence.text
    if sentence.language == "en" and (match := _LEADING.match(text)):
        text = f"{match[2].upper()}{match[3]} {match[1][0].lower()}{match[1][1:]}."
    for word, other in _SYNONYMS[sentence.language]:
        if sentence.language == "zh":
            text = text.replace(word, other, 1)
        else:
            text = re.sub(rf"(?<![\w-]){word}(?![\w-])", other, text, count=1)
    if text != sentence.text:
        return text
    if sentence.language == "zh":
        return f"文中提到，{text}"
    return f"The text says that {text[0].lower() if sentence.plain_start else text[0]}{text[1:]}"


# --- wrong --------------------------------------------------------------------------------------------------------

_NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty")
_ZH_NUMBERS = "三四五六七八九"
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_YEAR = re.compile(r"(?<![\d.,])(1[5-9]\d\d|20\d\d)(?![\d.,]\d|\d)")
_DAY = re.compile(rf"(?<!\d)([12]?\d|3[01]) (?={'|'.join(_MONTHS)})|(?<=[月])(\d{{1,2}})(?=日)|(\d{{1,2}})(?=月)")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")
_ZH_NUMBER = re.compile(rf"[{_ZH_NUMBERS}](?=[个座名年月天次条人部分家块票小时台项层种]|[十百千万])|\d+(?:\.\d+)?")
_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][\w'-]+)(?: [A-Z][\w'-]+)*")
_ZH_NAME = re.compile(r"《[^》]{1,20}》|“[^”]{2,12}”|[A-Za-z][\w-]{2,}")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _other_number(text: str, chance: random.Random) -> str:
    """A number of the same form and size that is clearly another one."""
    digits = re.sub(r"\D", "", text)
    value = int(digits)
    change = max(1, value // 3) * chance.choice((1, 2))
    new = str(value + change if value < 3 or chance.random() < 0.6 else max(1, value - change)).rjust(len(digits), "0")
    if new == digits:
        new = str(value + 1)
    if len(new) != len(digits):
        return new
    places = iter(new)
    return "".join(next(places) if c.isdigit() else c for c in text)


def _number(sentence: TrueSentence, chance: random.Random, _: Sequence[str]) -> str | None:
    text = sentence.text
    pattern = _ZH_NUMBER if sentence.language == "zh" else _NUMBER
    dates = [m.span() for m in (*_YEAR.finditer(text), *_DAY.finditer(text))]
    spots = [m for m in pattern.finditer(text) if not any(a <= m.start() < b for a, b in dates)]
    if sentence.language == "en":
        spots += re.finditer(rf"(?<![\w-])(?:{'|'.join(_NUMBER_WORDS)})(?![\w-])", text, re.IGNORECASE)
    if not spots:
        return None
    spot = chance.choice(spots)
    word = spot[0]
    if word.lower() in _NUMBER_WORDS:
        other = chance.choice([w for w in _NUMBER_WORDS if w != word.lower()])
        other = other.capitalize() if word[0].isupper() else other
    elif word in _ZH_NUMBERS:
        other = chance.choice([w for w in _ZH_NUMBERS if w != word])
    else:
        other = _other_number(word, chance)
    return text[: spot.start()] + other + text[spot.end() :]


def _date(sentence: TrueSentence, chance: random.Random, _: Sequence[str]) -> str | None:
    text = sentence.text
    if spots := list(_YEAR.finditer(text)):
        spot = chance.choice(spots)
        return text[: spot.start()] + str(int(spot[0]) + chance.choice((-17, -9, -4, 3, 6, 11))) + text[spot.end() :]
    months = list(re.finditer(rf"(?<!\w)(?:{'|'.join(m for m in _MONTHS if m != 'May')}|(?<=\d )May)(?!\w)", text))
    if months:
        spot = chance.choice(months)
        other = chance.choice([m for m in _MONTHS if m != spot[0]])
        return text[: spot.start()] + other + text[spot.end() :]
    if sentence.language == "zh" and (days := [m for m in _DAY.finditer(text) if int(m[0]) <= 31]):
        spot = chance.choice(days)
        return text[: spot.start()] + str(int(spot[0]) % 12 + 1) + text[spot.end() :]
    return None


def _entity(sentence: TrueSentence, chance: random.Random, names: Sequence[str]) -> str | None:
    pattern = _ZH_NAME if sentence.language == "zh" else _NAME
    spots = [m for m in pattern.finditer(sentence.text) if m[0] in names]
    if not spots:
        return None
    spot = chance.choice(spots)
    others = [n for n in names if n not in sentence.text and n not in spot[0] and spot[0] not in n]
    alike = [n for n in others if (n in _DAYS) == (spot[0] in _DAYS) and n[0].isascii() == spot[0][0].isascii()]
    others = list(set(_DAYS) - {spot[0]}) if spot[0] in _DAYS else alike
    others.sort()
    if not others:
        return None
    return sentence.text[: spot.start()] + chance.choice(others) + sentence.text[spot.end() :]


def names_in(text: str) -> list[str]:
    """The names in a text's sentences, for errors of the kind "entity"."""
    pattern = _ZH_NAME if language_of(text) == "zh" else _NAME
    matches = (m[0] for sentence in true_sentences(text) for m in pattern.finditer(sentence.text))
    return sorted({name for name in matches if name not in _MONTHS and len(name) > 2})


_NEGATIONS = {
    "en": (
        (r"(?<!\w)(is|are|was|were|can|could|will|would|must|should|may|has been|have been|had been) not(?!\w)", r"\1"),
        (r"(?<!\w)(does|do|did) not (?=\w)", ""), (r"(?<!\w)(is|was|were|are)n't(?!\w)", r"\1"),
        (r"(?<!\w)cannot(?!\w)", "can"), (r"(?<!\w)never(?!\w)", "always"),
        (r"(?<!\w)(has|have|had) been(?!\w)", r"\1 not been"),
        (r"(?<!\w)(is|are|was|were|can|could|will|would|must|should)(?= )(?! not)", r"\1 not"),
    ),
    "zh": (
        (r"不(?=是|能|会|可以|得|再|需|应)", ""), (r"没有", "有"), (r"未(?!来|必)", "已"),
        (r"(?<![不都只就还凡可性功])(是|能够|能|会|可以|应当|应)(?![否见力源量级议员计用])", r"不\1"),
        (r"(?<![没所具])有(?=[一-龥])(?![用效关时些限所])", "没有"),
        (r"已(?!知)", "未"),
    ),
}  # fmt: skip
_RELATIONS = {
    "en": _pairs(
        r"""
        more/less, higher/lower, before/after, above/below, increased/decreased, increases/decreases,
        rises/falls, rose/fell, larger/smaller, longer/shorter, north/south, east/west, first/last,
        opened/closed, bought/sold, inside/outside, highest/lowest, earlier/later, upper/lower,
        best/worst, gained/lost, faster/slower, nearest/farthest, largest/smallest, over/under,
        oldest/youngest
        """
    ),
    "zh": _pairs(
        r"""
        增加/减少, 上升/下降, 高于/低于, 大于/小于, 之前/之后, 以上/以下, 最高/最低, 最大/最小,
        提高/降低, 多于/少于, 北峰/南峰, 南坡/北坡, 东部/西部, 南部/北部, 东侧/西侧, 以前/以后,
        以内/以外, 上午/下午, 早于/晚于, 最早/最晚, 先于/后于, 早班/晚班
        """
    ),
}
_SCOPES = {
    "en": _pairs(
        r"""
        all/a few, every/only one, each/only one, most of/hardly any of, only/not only,
        always/sometimes, usually/rarely, at least/at most, at most/at least, both/neither,
        several/all, many/few, sometimes/always, often/rarely, nearly all/hardly any
        """
    ),
    "zh": _pairs(
        r"""
        所有/少数, 全部/少数, 至少/至多, 至多/至少, 最多/最少, 通常/很少, 只有/不只有, 总是/偶尔,
        大多/极少, 部分/全部, 每/只有一, 都/并非都, 有些/所有, 许多/极少
        """
    ),
}


def _negation(sentence: TrueSentence, chance: random.Random, _: Sequence[str]) -> str | None:
    for pattern, other in _NEGATIONS[sentence.language]:
        changed = re.sub(pattern, other, sentence.text, count=1)
        if changed != sentence.text:
            return re.sub(r"  +", " ", changed)
    return None


def _swapped(words: Sequence[tuple[str, str]], both_ways: bool) -> Callable[..., str | None]:
    pairs = [*words, *((b, a) for a, b in words)] if both_ways else list(words)
    others = dict(reversed(pairs))

    def change(sentence: TrueSentence, chance: random.Random, _: Sequence[str]) -> str | None:
        edge = ("", "") if sentence.language == "zh" else (r"(?<![\w-])", r"(?![\w-])")
        words_here = "|".join(sorted(map(re.escape, others), key=len, reverse=True))
        spots = list(re.finditer(f"{edge[0]}(?:{words_here}){edge[1]}", sentence.text, re.IGNORECASE))
        if not spots:
            return None
        spot = chance.choice(spots)
        other = others[spot[0].lower()]
        other = other[0].upper() + other[1:] if spot[0][0].isupper() else other
        return sentence.text[: spot.start()] + other + sentence.text[spot.end() :]

    return change


_BY_LANGUAGE: Mapping[str, Mapping[str, Callable[..., str | None]]] = {
    language: {
        "number": _number,
        "date": _date,
        "entity": _entity,
        "negation": _negation,
        "relation": _swapped(_RELATIONS[language], both_ways=True),
        "scope": _swapped(_SCOPES[language], both_ways=False),
    }
    for language in ("en", "zh")
}


def corrupted(sentence: TrueSentence, kind: str, chance: random.Random, names: Sequence[str] = ()) -> str | None:
    """The sentence with an error of this kind (one of :data:`KINDS` but the last), or None where the rule doesn't fit.

    ``names``: all names of the text, for "entity": one of the sentence's is replaced by another.
    """
    changed = _BY_LANGUAGE[sentence.language][kind](sentence, chance, names)
    return None if changed is None or changed == sentence.text else changed
