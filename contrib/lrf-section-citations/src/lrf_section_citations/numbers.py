"""Chinese numerals."""

from __future__ import annotations

_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}


def number_of(text: str) -> str | None:
    """The number in plain digits ("十二" and "12" give "12", "2.3" gives "2.3"), or None for other text."""
    if all(part.isdecimal() for part in text.split(".")):
        return ".".join(str(int(part)) for part in text.split("."))
    if all(c in _DIGITS for c in text):  # digit by digit: 二〇
        return str(int("".join(str(_DIGITS[c]) for c in text)))
    total, digit = 0, None
    for c in text:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _UNITS:
            total += (1 if digit is None else digit) * _UNITS[c]
            digit = None
        else:
            return None
    return str(total + (digit or 0))
