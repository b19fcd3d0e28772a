"""The values of numbers that are written in words, English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LONGEST = 20
"""Words or characters of a number."""
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_ONES += " seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ENGLISH: Mapping[str, int] = {
    **{word: n for n, word in enumerate(_ONES.split())},
    **{word: 10 * n for n, word in enumerate(_TENS.split(), 2)},
}
ENGLISH_SCALES: Mapping[str, int] = {
    "hundred": 100, "dozen": 12, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
_ORDINALS += " fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
ORDINALS: Mapping[str, int] = {word: n for n, word in enumerate(_ORDINALS.split(), 1)}
MULTIPLES: Mapping[str, int] = {"twice": 2, "double": 2, "thrice": 3, "triple": 3}

FRACTIONS: Mapping[str, int] = {
    "halves": 2, "half": 2, "thirds": 3, "third": 3, "quarters": 4, "quarter": 4, "fifths": 5, "fifth": 5, "sixths": 6,
    "sixth": 6, "eighths": 8, "eighth": 8, "tenths": 10, "tenth": 10,
}  # fmt: skip

CHINESE: Mapping[str, int] = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_SCALES: Mapping[str, int] = {"十": 10, "百": 100, "千": 1_000}
_CHINESE_GROUPS: Mapping[str, int] = {"万": 10**4, "亿": 10**8}
FIRST_HAN = "\u3400"
"""The first Chinese character."""
CHINESE_DIGITS = "".join(CHINESE)
CHINESE_NUMERALS = CHINESE_DIGITS + "".join(_CHINESE_SCALES) + "".join(_CHINESE_GROUPS)


def english_number(text: str) -> float | None:
    """The value of words such as "a hundred and five" or "twenty-three"; None for "a", "an" or "one" alone."""
    words = [word for word in re.split(r"[\s-]+", text.lower()) if word not in ("and", "a", "an")]
    if words in ([], ["one"]) or len(words) > _LONGEST:
        return None
    total = group = 0
    for word in words:
        if word in ENGLISH:
            group += ENGLISH[word]
        elif word in ENGLISH_SCALES:
            scale = ENGLISH_SCALES[word]
            group = max(group, 1) * scale
            if scale >= 1_000:
                total, group = total + group, 0
    return float(total + group)


def chinese_number(text: str) -> float | None:
    """The value of a numeral such as 三千零五十, 二〇二〇, 三点五 or 两万; None for one that can't be read."""
    whole, point, decimals = text.partition("点")
    if len(text) > _LONGEST:
        return None
    if point:
        if decimals[-1:] in _CHINESE_GROUPS:  # 四点二亿
            value = chinese_number(text[:-1])
            return None if value is None else value * _CHINESE_GROUPS[decimals[-1]]
        value = chinese_number(whole)
        if value is None or not decimals or any(c not in CHINESE for c in decimals):
            return None
        return value + sum(CHINESE[c] * 10.0 ** -(n + 1) for n, c in enumerate(decimals))
    if len(whole) > 1 and all(c in CHINESE for c in whole):  # a row of digits: a year, a number of a room
        return float("".join(str(CHINESE[c]) for c in whole))
    total = group = digit = last = 0
    for c in whole:
        if c in CHINESE:
            digit, last = CHINESE[c], 0 if c in "零〇" else last
        elif c in _CHINESE_SCALES:
            last = _CHINESE_SCALES[c]
            group += (digit or 1) * last
            digit = 0
        elif c in _CHINESE_GROUPS:
            last = _CHINESE_GROUPS[c]
            group = (group + digit) or 1
            total, group, digit = (total + group) * last if c == "亿" else total + group * last, 0, 0
        else:
            return None
    tail = digit * last // 10 if last > 10 else digit  # 一万二 is 12,000, 三百五 350
    return float(total + group + tail)
