"""One quantity of a text, and whether another one says the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity: what it measures, and how much of the base unit.

    ``kind`` is a family of units, "number", "ordinal", "year", "month", "day" (month × 100 + day) or "clock" (minutes
    of the day). ``digits`` are its significant digits as written, ``bare`` the number before a unit. ``about``: it is
    called approximate, or is a clock that doesn't say which half of the day, or a date that doesn't say which of its
    numbers is the month. ``beyond``: 1 where what is meant is a little more ("over a fifth"), -1 where it is less.
    """

    kind: str
    value: float
    digits: int = 15
    about: bool = False
    bare: float | None = None
    beyond: int = 0

    def said_by(self, other: Quantity) -> bool:
        """Whether ``other``, of the evidence, says this: it may be more exact, and in another unit."""
        if self.kind == "month" and other.kind == "day":
            return other.value // 100 == self.value
        if {self.kind, other.kind} == {"time", "calendar"}:
            return self._months(other)
        if {self.kind, other.kind} == {"time", "day"}:
            return self._same_day(other)
        if self.kind != other.kind and not ("number" in (self.kind, other.kind) and {self.kind, other.kind} <= _BARE):
            return "number" in (self.kind, other.kind) and self._same_digits(other)
        if self.kind == "clock" and (self.about or other.about):
            return self.value % 720 == other.value % 720
        if self.kind == "day" == other.kind and (self.about or other.about):
            return self.value in (other.value, 100 * (other.value % 100) + other.value // 100)
        if math.isclose(self.value, other.value, rel_tol=1e-6, abs_tol=1e-12):
            return True
        if self.kind in _EXACT or other.kind in _EXACT:
            return False
        return self._nearly(other)

    def _nearly(self, other: Quantity) -> bool:
        """Whether it is a rounder number, or one that is called approximate or exceeded."""
        if self.about or other.about:
            return math.isclose(self.value, other.value, rel_tol=0.06)
        if self.beyond and not other.beyond and other.value:
            return 0 < self.beyond * (other.value - self.value) / abs(other.value) <= _BEYOND
        return self.digits < other.digits and self.value == float(f"{other.value:.{self.digits - 1}e}")

    def _same_digits(self, other: Quantity) -> bool:
        """Whether a number without a unit is the one before the other's unit, and no number that stands anywhere."""
        return self.bare is not None and self.bare == other.bare and (self.bare % 1 != 0 or self.bare >= 100)

    def _same_day(self, other: Quantity) -> bool:
        """Whether a day without its month, such as "the 28th", is that of a date."""
        day, number = (self, other.bare) if self.kind == "day" else (other, self.bare)
        return number is not None and day.value % 100 == number and (self.kind == "time" or number > 3)

    def _months(self, other: Quantity) -> bool:
        """Whether days or weeks are as long as months or years: 30 days, a month."""
        months, days = (self, other) if self.kind == "calendar" else (other, self)
        return months.value >= 0.5 and math.isclose(days.value / 86400 / _DAYS_A_MONTH, months.value, rel_tol=0.04)


_BEYOND = 0.15
"""How far from a number a text says that is "more than" it."""
_DAYS_A_MONTH = 30.44
COMPARABLE: Mapping[str, tuple[str, ...]] = {
    "month": ("day",), "day": ("time",), "time": ("calendar", "day"), "calendar": ("time",),
}  # fmt: skip
"""The kinds besides its own and "number" that can say a quantity."""
_EXACT = frozenset({"clock", "month", "day", "year", "ordinal"})
_BARE = frozenset(  # what is often written without its unit
    {"number", "year", "ordinal", "share", "temperature", "dollar", "euro", "sterling", "yuan", "yen"}
)
