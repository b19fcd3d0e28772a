"""Values of a row of data: which are allowed, and how a message shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic_core import PydanticCustomError

from lrf.text.unicode import unusable_character
from lrf.types import JSON

MAX_DEPTH = 64
_LONGEST_QUOTE = 60


class InvalidRowError(Exception):
    """A row can't be used; the message begins with the field's path."""


def invalid(problem: str, at: str = "") -> PydanticCustomError:
    """What a validator raises for a mistaken value. ``at`` is the place inside the field, such as ``.key[3]``."""
    return PydanticCustomError("row", "{problem}", {"problem": problem, "at": at})


def text_problem(value: JSON) -> str | None:
    """What keeps a value from being a text of a sample; None if nothing does."""
    if not isinstance(value, str):
        return f"expected a text, got {kind_of(value)}"
    if (unusable := unusable_character(value)) is not None:
        return f"contains {unusable[0]} at character {unusable[1]}; remove it"
    return None


def check_depth(value: JSON, depth: int = MAX_DEPTH) -> None:
    """Raise :func:`invalid` if the value has more than :data:`MAX_DEPTH` levels."""
    if isinstance(value, dict | list | tuple):
        if not depth:
            raise invalid(f"nested deeper than {MAX_DEPTH} levels")
        for item in value.values() if isinstance(value, dict) else value:
            check_depth(item, depth - 1)


def check_json(value: JSON, at: str = "") -> None:
    """Raise :func:`invalid` if the value has a part that JSON doesn't have, or a text that can't be stored.

    For values from elsewhere than JSON text, whose levels :func:`check_depth` has counted.
    """
    if isinstance(value, str):
        if (problem := text_problem(value)) is not None:
            raise invalid(problem, at)
    elif isinstance(value, dict):
        for key, item in value.items():
            if (problem := text_problem(key)) is not None:
                raise invalid(f"key: {problem}", at)
            check_json(item, f"{at}{_step(key)}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_json(item, f"{at}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"{value} is not a JSON value", at)
    elif not (value is None or isinstance(value, int | float)):
        raise invalid(f"{kind_of(value)} is not a JSON value", at)


def refuse_constant(name: str) -> JSON:
    """What a JSON decoder calls for NaN and infinities. Raises ValueError."""
    raise ValueError(f"{name} is not a JSON value")


def finite(number: str) -> float:
    """What a JSON decoder calls for a number with a fraction or an exponent. Raises ValueError for one without end."""
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:_LONGEST_QUOTE]} is larger than any number that can be kept")
    return value


def _step(key: str) -> str:
    return f".{key if key.isidentifier() and len(key) <= _LONGEST_QUOTE else quoted(key)}"


def quoted(text: str) -> str:
    """A piece of data for an error message: in quotes, cut, and without anything that a terminal would act on."""
    cut = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
    return f'"{cut}"' if cut.isprintable() else ascii(cut)


def kind_of(value: JSON) -> str:
    """What kind of JSON value it is, in words."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (str, "a text"),
        ((int, float), "a number"),
        (Mapping, "an object"),
        ((list, tuple), "a list"),
    )
    if value is None:
        return "null"
    return next(
        (words for type_, words in kinds if isinstance(value, type_)), f"a value of type {type(value).__name__}"
    )
