"""Dates and times of day in a text, in whatever way they are written."""

from __future__ import annotations

import re

from lrf_overlap.numerals import CHINESE_NUMERALS, chinese_number, english_number
from lrf_overlap.patterns import MONTH_BEFORE, MONTHS, PART_OF_DAY
from lrf_overlap.quantity import Quantity

Found = tuple[int, tuple[Quantity, ...]]
"""The end of a quantity with its unit, and what it says; a date says several things."""


def first_of(match: re.Match[str], *names: str) -> str | None:
    """The first of these groups that matched, of those that the pattern has."""
    known = match.re.groupindex
    return next((match[name] for name in names if name in known and match[name]), None)


def value_of(text: str | None) -> float | None:
    """The value of digits or of a numeral of either language."""
    if not text:
        return None
    if text[0].isdigit():
        return float(text.replace(",", ""))
    return chinese_number(text) if text[0] in CHINESE_NUMERALS else english_number(text) or float(text.lower() == "one")


def date(match: re.Match[str], text: str) -> Found | None:
    year, day = (
        value_of(first_of(match, "y", "y1", "y2", "y3", "zy", "zy2")),
        value_of(first_of(match, "d", "d1", "d2", "zd")),
    )
    written = first_of(match, "m", "m_", "m__", "m1", "m2", "m3", "m4", "zm")
    if written and written[0].isascii() and written[0].isalpha():
        month: float | None = float(MONTHS.index(written[:3].lower()) + 1)
    else:
        month = value_of(written)
    if match.lastgroup == "dmy" and month is not None and day is not None and month > 12:
        month, day = day, month  # month first
    if (month is not None and not 1 <= month <= 12) or (day is not None and not 1 <= day <= 31):
        return None
    said = [Quantity("year", year)] if year is not None else []
    if month is not None:
        either = match.lastgroup == "dmy" and day is not None and day <= 12
        said.append(Quantity("month", month) if day is None else Quantity("day", 100 * month + day, about=either))
    return match.end(), tuple(said)


def month(match: re.Match[str], text: str) -> Found | None:
    """A month alone. "May" and "march" are words, too, so one must follow a word such as "in", with a capital."""
    if not match[0][0].isupper() or not MONTH_BEFORE.search(text, 0, match.start()):
        return None
    return date(match, text)


def clock(match: re.Match[str], text: str) -> Found | None:
    hour, minute = value_of(first_of(match, "h", "h2", "h3")), value_of(first_of(match, "min", "minute")) or 0.0
    if first_of(match, "half"):
        minute = 30.0
    elif quarter := first_of(match, "quarter"):
        minute = 45.0 if quarter == "三" else 15.0
    if hour is None or hour > 24 or minute > 59:
        return None
    said, part = (first_of(match, "pm", "pm2") or "").lower(), PART_OF_DAY.search(text, 0, match.start())
    known = (said[:1] in ("a", "p") and said != "") or part is not None or hour > 12 or hour == 0
    later = said[:1] == "p" or (part is not None and part[1] in ("下午", "晚上", "夜里", "夜间"))
    if later and hour < 12:
        hour += 12
    elif said[:1] == "a" and hour == 12:
        hour = 0
    exact = known or (bool(first_of(match, "min")) and len(first_of(match, "h") or "") == 2)
    return match.end(), (Quantity("clock", (60 * hour + minute) % 1440, about=not exact),)


def clock_words(match: re.Match[str], text: str) -> Found | None:
    hour, said, part = value_of(match["ch"]), match["cm"].lower().split(), match["cp"]
    if hour is None or hour > 12:
        return None
    minute = {"half": 30, "quarter": 15, "five": 5, "ten": 10, "twenty": 20, "twenty-five": 25}[said[-2]]
    hour += 12 * (part in ("afternoon", "evening") and hour < 12)
    minutes = 60 * hour + (minute if said[-1] == "past" else -minute)
    return match.end(), (Quantity("clock", minutes % 1440, about=part is None),)


def noon(match: re.Match[str], text: str) -> Found:
    return match.end(), (Quantity("clock", 720.0 if match[0].lower() == "noon" else 0.0),)
