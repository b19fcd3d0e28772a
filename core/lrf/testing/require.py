"""Assertions of the checks, with a message for the component's author."""

from __future__ import annotations

import json
import math

from lrf.types import JSON


def must(holds: bool, message: str) -> None:
    """Raises AssertionError with the message unless ``holds``."""
    if not holds:
        raise AssertionError(message)


def must_be_number(value: object, what: str) -> None:
    """A finite number, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    must(value is None or number, f"{what} is {value!r}, no finite number")


def must_be_json(value: JSON, what: str) -> None:
    """A value that JSON in UTF-8 can hold."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} can't be stored as JSON: {error}") from error
