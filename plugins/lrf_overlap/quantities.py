"""Numbers, dates, times and measures in a text, whatever way they are written in, English or Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from lrf_overlap.dates import Found, clock, clock_words, date, first_of, month, noon, value_of
from lrf_overlap.numerals import (
    ENGLISH,
    FIRST_HAN,
    FRACTIONS,
    MULTIPLES,
    ORDINALS,
    chinese_number,
    english_number,
)
from lrf_overlap.patterns import (
    ABOUT,
    BOUND,
    MEASURE,
    NO_WORD_TRIGGER,
    NOT_NUMBERS,
    NUMBER_WORDS,
    STARTS,
    TENTH,
    TRIGGER,
    quantity_at,
    unit_at,
)
from lrf_overlap.quantity import Quantity
from lrf_overlap.units import SCALES, UNITS

_CURRENCY = {"$": "dollar", "€": "euro", "£": "sterling", "¥": "yuan"}

_IN_SEVERAL_UNITS = frozenset({"time", "calendar", "length", "mass"})
_AND = re.compile(r" ?(?:and |, |[零又])?")

_Placed = tuple[int, int, tuple[Quantity, ...]]


@lru_cache(maxsize=4096)
def quantities_of(sentence: str) -> tuple[_Placed, ...]:
    """The quantities of a sentence, kept for the next time."""
    return tuple(_joined(sentence, quantities(sentence)))


def _joined(text: str, found: Iterator[_Placed]) -> Iterator[_Placed]:
    """The quantities, with those joined that are one in several units: two hours and ten minutes, 一年零三个月."""
    before: _Placed | None = None
    for start, end, said in found:
        if before is not None:
            if (sum_ := _sum(before[2][-1], said[0])) is not None and _AND.fullmatch(text, before[1], start):
                before = before[0], end, (sum_,)
                continue
            yield before
        before = start, end, said
    if before is not None:
        yield before


def _sum(more: Quantity, less: Quantity) -> Quantity | None:
    if more.kind != less.kind or more.kind not in _IN_SEVERAL_UNITS or not more.bare or not less.bare:
        return None
    if not 0 < less.value < more.value / more.bare:
        return None
    return Quantity(more.kind, more.value + less.value, about=less.about)


def quantities(text: str) -> Iterator[_Placed]:
    """Each quantity of the text: its start, its end, and what it says."""
    at = 0
    words = not NUMBER_WORDS.isdisjoint(_SMALL_WORD.findall(text.lower()))
    for trigger in (TRIGGER if words else NO_WORD_TRIGGER).finditer(text):
        start = trigger.start()
        if start < at:
            continue
        first = text[start]
        if first.isascii() and first.isalpha():
            if trigger[0].lower() not in STARTS:
                continue
        elif _in_a_name(text, start):
            at = _after_name(text, start)
            continue
        if (match := quantity_at(text, start)) is None:
            continue
        if found := _READERS[_kind(match)](match, text):
            at, said = found
            yield match.start(), at, said
        elif first.isdigit():
            at = match.end()


_REST = re.compile(r"\b(?:remaining|other|final) $", re.IGNORECASE)
_OF = re.compile(r" (?:of|the|full|empty|less|more|as|is|are|was|were|have|has|had)\b")
_ALWAYS = frozenset({"half", "halves", "quarter", "quarters"})
_PERIOD = re.compile(
    r"\b(?:the|this|that|last|next|each|every|per|first|second|third|fourth|same|previous|fiscal) $", re.IGNORECASE
)
_SMALL_WORD = re.compile("[a-z]+")
_NAME_END = re.compile(r"\w+(?:[.-]\w+)*")


def _in_a_name(text: str, at: int) -> bool:
    """Whether a digit belongs to a name such as A4 or COVID-19."""
    before = text[at - 1] if at else " "
    if before == "-" and at > 1:
        before = text[at - 2]
    return text[at].isdigit() and before.isascii() and before.isalpha()


def _after_name(text: str, at: int) -> int:
    end = _NAME_END.match(text, at)
    return end.end() if end else at + 1


def _kind(match: re.Match[str]) -> str:
    """The way in which it is written: of the groups that matched the outer one, which ends last."""
    assert match.lastgroup is not None
    return match.lastgroup


def _share(match: re.Match[str], text: str) -> Found | None:
    value = value_of(match["zs"])
    return None if value is None else (match.end(), (Quantity("share", value / 100, _digits(match["zs"])),))


def _ratio(match: re.Match[str], text: str) -> Found | None:
    above, below = value_of(first_of(match, "x", "num", "vn")), value_of(first_of(match, "n", "den", "vd"))
    if not below or above is None or above > below:
        return None
    unit = unit_at(text, match.end())
    family, factor, end = "share", 1.0, match.end()
    if unit is not None and _kind(match) != "one_in":
        (family, factor), end = _unit(unit), unit.end()
    return end, (Quantity(family, factor * above / below, about=below % 3 == 0 or below % 7 == 0),)


def _fraction(match: re.Match[str], text: str) -> Found | None:
    written, denominator = match["fn"], match["fd"].lower()
    if written is None and denominator == "quarter" and _PERIOD.search(text, 0, match.start()):
        return None
    plain = denominator in _ALWAYS or (written is not None and denominator.endswith("s"))
    if not (plain or match["fu"] or _REST.search(text, 0, match.start())) and (
        written is None or not _OF.match(text, match.end())
    ):
        return _ordinal_word(match, text)
    count = 1.0 if written is None or written.lower() in ("a", "an", "one") else value_of(written) or 1.0
    value = count / FRACTIONS[denominator]
    unit = (match["fu"] or "").lower()
    if unit in UNITS:
        family, factor = UNITS[unit]
        return match.end(), (Quantity(family, value * factor),)
    return match.end(), (
        Quantity(
            "number" if unit else "share",
            value * SCALES.get(unit, 1.0),
            about=FRACTIONS[denominator] % 3 == 0,
            beyond=_beyond(match, text),
        ),
    )


def _ordinal_word(match: re.Match[str], text: str) -> Found | None:
    word = (first_of(match, "fd") or "").lower()
    return (match.end(), (Quantity("ordinal", float(ORDINALS[word])),)) if word in ORDINALS else None


def _ordinal(match: re.Match[str], text: str) -> Found | None:
    written = (first_of(match, "on", "quarter_of") or "").lower()
    value = float(ORDINALS[written]) if written in ORDINALS else value_of(written)
    return None if value is None or written in ("first", "1", "一") else (match.end(), (Quantity("ordinal", value),))


def _multiple(match: re.Match[str], text: str) -> Found:
    return match.end(), (Quantity("number", float(MULTIPLES[match[0].lower()]), 1),)


def _and_half(match: re.Match[str], text: str) -> Found | None:
    value = 1.0 if match["hn"].lower() in ("a", "an") else value_of(match["hn"])
    family, factor = UNITS["个月" if match["hu"] == "月" else match["hu"]]
    quarters = match.groupdict().get("quarters")
    more = 0.5 if quarters is None else 0.75 if quarters == "three" else 0.25
    return None if value is None else (match.end(), (Quantity(family, (value + more) * factor),))


def _half_more(match: re.Match[str], text: str) -> Found | None:
    """Two and a half, of what follows."""
    value = value_of(match["hm"])
    if value is None:
        return None
    if scale := _SCALE.match(text, match.end()):
        return scale.end(), (Quantity("number", (value + 0.5) * SCALES[scale[1]]),)
    return _measured(value + 0.5, _digits(f"{value}"), match, text)


def _tens_ordinal(match: re.Match[str], text: str) -> Found:
    return match.end(), (
        Quantity("ordinal", float(ENGLISH[match["tens"].lower()] + ORDINALS[match["tens_on"].lower()])),
    )


def _one_unit(match: re.Match[str], text: str) -> Found:
    """The year of "a year and three months"."""
    family, factor = UNITS[match["ou"]]
    return match.end(), (Quantity(family, factor, bare=1.0),)


def _half(match: re.Match[str], text: str) -> Found:
    unit = match["hu2"]
    if unit is None:
        return match.end(), (Quantity("share", 0.5, beyond=1 if match[0] == "过半" else _beyond(match, text)),)
    family, factor = UNITS["个月" if unit == "月" else unit]
    return match.end(), (Quantity(family, 0.5 * factor),)


def _tenths(match: re.Match[str], text: str) -> Found:
    more = text[match.end() : match.end() + 1] == "多"
    value = (value_of(match["tenths"]) or 0.0) / 10 + 0.05 * (more or match["tenth_half"] is not None)
    value += (value_of(match["hundredths"]) or 0.0) / 100
    return match.end(), (Quantity("share", value, about=more),)


def _discount(match: re.Match[str], text: str) -> Found:
    tens, *ones = (value_of(digit) or 0.0 for digit in match["discount"].replace("点", ""))
    return match.end(), (Quantity("share", tens / 10 + sum(ones) / 100),)


def _number(match: re.Match[str], text: str) -> Found | None:
    written, scale = match["dig"], SCALES[match["scale"].lower() if match["scale"] else "one"]
    value = (
        float(written.replace(",", "." if re.fullmatch(r"\d+,\d\d?", written) else "").translate(_SEPARATORS)) * scale
    )
    start = match.start()
    if text[start - 2 : start] == "零下":
        value = -value
    if (
        start
        and text[start - 1] in "-−"
        and (start < 2 or not text[start - 2].isalnum() or text[start - 2] >= FIRST_HAN)
    ):
        value = -value
    currency = _CURRENCY.get(text[start - 1 : start] if text[start - 1 : start] != " " else text[start - 2 : start - 1])
    if currency and not match["scale"] and (million := re.compile(r" ?m\b").match(text, match.end())):
        return million.end(), (Quantity(currency, value * 1e6, _digits(written)),)
    end, said = _measured(value, _digits(written), match, text, currency)
    if said[0].kind == "number" and re.fullmatch("1[5-9]..|20..", match[0]):
        said = (Quantity("year", value),)
    return end, said


def _words(match: re.Match[str], text: str) -> Found | None:
    value = english_number(match[0])
    unit = unit_at(text, match.end())
    if value is None and match[0].lower() == "one" and unit is not None:
        value = 1.0
    return None if value is None else _measured(value, _digits(f"{value:.0f}"), match, text)


def _chinese(match: re.Match[str], text: str) -> Found | None:
    """A numeral, unless it is part of a word, as single characters often are: then a unit or a measure must follow."""
    written = match["han"]
    single = written in NOT_NUMBERS or len(written) == 1
    if single:
        unit = unit_at(text, match.end())
        measure = MEASURE.match(text, match.end())
        if (unit is None and (measure is None or written == "一")) or written in ("千万", "万一"):
            return None
        if written == "一" and unit is not None and unit["zh"] in ("度", "天", "分", "元"):
            return None
    value = chinese_number(written)
    if value is not None and text[match.start() - 2 : match.start()] == "零下":
        value = -value
    return None if value is None else _measured(value, _digits(f"{value:.10g}"), match, text)


def _measured(value: float, digits: int, match: re.Match[str], text: str, currency: str | None = None) -> Found:
    """The number with the unit that follows it, and whether it is called approximate."""
    start, end = match.start(), match.end()
    family, factor = currency or "number", 1.0
    about = bool(ABOUT.search(text, max(0, start - 15), start))
    unit = None if currency else unit_at(text, end)
    if unit is not None:
        family, factor = _unit(unit)
        about, end = about or unit["about"] is not None, unit.end()
        if unit["zh"] == "年" and text[start - 2 : start] == "民国":
            return end, (Quantity("year", value + 1911),)
        if unit["zh"] in ("米", "块钱") and (tenth := TENTH.match(text, end)):  # 一米二
            value, digits, end = value + chinese_number(tenth[0]) / 10, digits + 1, tenth.end()  # type: ignore[operator]
    elif text[end : end + 1] in ("多", "余") or text[end : end + 2] == "左右":
        about = True
    return end, (Quantity(family, value * factor, digits, about, value, _beyond(match, text, end)),)


def _beyond(match: re.Match[str], text: str, end: int | None = None) -> int:
    bound = BOUND.search(text, max(0, match.start() - 12), match.start())
    if bound is not None:
        return 1 if bound["more"] else -1
    return int(text.startswith(("以上", "多", "余"), match.end() if end is None else end))


def _unit(unit: re.Match[str]) -> tuple[str, float]:
    name = (unit["latin"] or unit["zh"]).lower()
    return UNITS[name] if name in UNITS else UNITS[name.removesuffix("s")]


def _digits(written: str) -> int:
    """The significant digits of a number as it is written, zeros at its end included; at least 1."""
    return max(1, len(re.sub(r"\D", "", written).lstrip("0")))


_SCALE = re.compile(r" (thousand|million|billion|trillion)\b")
_SEPARATORS = str.maketrans("", "", "'’ ")
_READERS: Mapping[str, Callable[[re.Match[str], str], Found | None]] = {
    **dict.fromkeys(("ymd", "dmy", "day_month", "month_day", "month_year", "zh_date", "zh_year"), date),
    "month": month,
    **dict.fromkeys(("clock", "oclock", "zh_clock"), clock),
    "noon": noon,
    "zh_share": _share,
    **dict.fromkeys(("one_in", "zh_fraction", "vulgar"), _ratio),
    "fraction": _fraction,
    "ordinal": _ordinal,
    "multiple": _multiple,
    "and_half": _and_half,
    "one_unit": _one_unit,
    "half_more": _half_more,
    "tens_ordinal": _tens_ordinal,
    "clock_words": clock_words,
    "zh_half": _half,
    "zh_tenths": _tenths,
    "zh_discount": _discount,
    "number": _number,
    "words": _words,
    "chinese": _chinese,
}
