"""What is allowed in a row of data, and how a row says what is wrong with it: the field's path first."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from lrf.plugin.suggest import did_you_mean
from lrf.text.unicode import unusable_character
from lrf.types import JSON

T = TypeVar("T")

MAX_DEPTH = 64

_USUAL_NAMES = {
    "question": "query",
    "instruction": "query",
    "input": "query",
    "document": "context",
    "documents": "context",
    "passage": "context",
    "answers": "candidates",
    "responses": "candidates",
    "completions": "candidates",
    "ground_truth": "reference",
    "conversation": "messages",
    "answer": "text",
    "response": "text",
    "content": "text",
    "text": "content",
    "model": "source",
    "idx": "id",
}


def text_problem(value: JSON) -> str | None:
    """What keeps a value from being a text of a sample; None if nothing does."""
    if not isinstance(value, str):
        return f"expected a text, got {kind_of(value)}"
    if (unusable := unusable_character(value)) is not None:
        return f"holds {unusable[0]} at character {unusable[1]}; take it out"
    return None


def quoted(text: str) -> str:
    """A piece of data for an error message: quoted, cut, with nothing in it that a terminal would act on."""
    cut = text if len(text) <= 60 else text[:59] + "…"
    return f'"{cut}"' if cut.isprintable() else ascii(cut)


class InvalidRow(Exception):
    """What is wrong with a row, beginning with the field's path."""


class JsonObject:
    """A JSON object of the row with its place (``candidates[3]``), whose keys are all allowed ones."""

    def __init__(self, value: JSON, at: str, allowed: Collection[str]) -> None:
        if not isinstance(value, Mapping):
            which = (
                f"{at}: expected an object" if at else f"a row must be an object with the fields {', '.join(allowed)};"
            )
            raise InvalidRow(f"{which}{',' if at else ''} got {kind_of(value)}")
        for key in value:
            if key not in allowed:
                raise InvalidRow(_unknown(key, at, allowed))
        self.at = at
        self._value = value

    def path(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def get(self, key: str) -> JSON:
        return self._value.get(key)

    def required(self, key: str) -> JSON:
        if (value := self.get(key)) is None:
            raise InvalidRow(f"{self.path(key)}: missing")
        return value

    def text(self, key: str) -> str:
        return as_text(self.required(key), self.path(key))

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def filled_text(self, key: str) -> str:
        return not_empty(self.text(key), self.path(key))

    def id(self, default: str) -> str:
        value = self.get("id")
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise InvalidRow(f"{self.path('id')}: expected a text or a whole number, got {kind_of(value)}")
        return not_empty(as_text(value, self.path("id")), self.path("id"))

    def items(self, key: str) -> list[tuple[str, JSON]]:
        value = self.get(key)
        return [] if value is None else as_items(value, self.path(key))

    def metadata(self) -> Mapping[str, JSON]:
        value = self.get("metadata")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidRow(f"{self.path('metadata')}: expected an object, got {kind_of(value)}")
        check_json(value, self.path("metadata"))
        return value


def as_text(value: JSON, at: str) -> str:
    if (problem := text_problem(value)) is not None:
        raise InvalidRow(f"{at}: {problem}")
    return str(value)


def not_empty(text: str, at: str) -> str:
    if not text.strip():
        raise InvalidRow(f"{at}: is empty")
    return text


def as_items(value: JSON, at: str) -> list[tuple[str, JSON]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidRow(f"{at}: expected a list, got {kind_of(value)}")
    return [(f"{at}[{i}]", v) for i, v in enumerate(value)]


def check_unique(things: Sequence[T], at: str, id_of: Callable[[T], str]) -> None:
    places: dict[str, int] = {}
    for i, thing in enumerate(things):
        if (first := places.setdefault(id_of(thing), i)) != i:
            raise InvalidRow(f"{at}[{i}].id: {quoted(id_of(thing))} is already the id of {at}[{first}]")


def check_json(value: JSON, at: str, depth: int = MAX_DEPTH) -> None:
    """Nothing in the value but what JSON has, and no deeper than so."""
    if depth < 0:
        raise InvalidRow(f"{at.split('.')[0]}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        as_text(value, at)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            name = as_text(key, f"{at}: key")
            plain = name.isidentifier() and len(name) <= 60
            check_json(item, f"{at}.{name if plain else quoted(name)}", depth - 1)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_json(item, f"{at}[{i}]", depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidRow(f"{at}: {value} is no JSON value")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise InvalidRow(f"{at}: {kind_of(value)} is no JSON value")


def _unknown(key: JSON, at: str, allowed: Collection[str]) -> str:
    usual = _USUAL_NAMES.get(str(key).casefold())
    hint = f"; did you mean {usual}?" if usual in allowed else did_you_mean(str(key), allowed)
    own = " (what is your own goes under metadata)" if "metadata" in allowed else ""
    where = f"{at}: " if at else ""
    return f"{where}unknown field {quoted(str(key))}; allowed: {', '.join(allowed)}{own}{hint}"


def kind_of(value: JSON) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a value of type {type(value).__name__}"
