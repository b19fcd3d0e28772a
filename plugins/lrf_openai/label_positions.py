"""Where a reply writes its label: the mark in free text, or the value in a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrf.errors import ParseError
from lrf.prompting.requests import Reply, Request
from lrf.types import JSON

_AFTER_A_NUMBER = (b",", b"}", b" ", b"\n", b"\r", b"\t")


@dataclass(frozen=True, slots=True)
class LabelPosition:
    """Where a label begins, and how each option could be written there.

    ``start`` is an offset in bytes into the reply's text in UTF-8. ``forms`` are lower-case bytes by option.
    """

    start: int
    forms: Mapping[str, tuple[bytes, ...]]


def label_name(schema: Mapping[str, JSON]) -> str:
    """The property with the label: the last, after the analysis."""
    return str(list(schema["properties"])[-1])


def find_label(text: str, request: Request, *, in_json: bool) -> LabelPosition | None:
    """The position of the label as which the reply would be read.

    The rules are those of :mod:`lrf.prompting.expectations`: several different marks are no label, and of
    equal ones the first counts. None without a label, and for a label that is not written as one of the options.
    """
    try:
        value = request.expects.read(Reply(text), "json" if in_json else "text")
    except ParseError:
        return None
    option = next((o for o in request.options if request.expects.read(Reply(o), "text") == value), None)
    if option is None:
        return None
    position = _in_json(text, request) if in_json else _of_mark(text, request, option)
    if position is None or not _lower(text)[position.start :].startswith(position.forms[option]):
        return None
    return position


def _of_mark(text: str, request: Request, option: str) -> LabelPosition | None:
    start = _lower(text).find(_lower(option))
    return LabelPosition(start, {o: (_lower(o),) for o in request.options}) if start >= 0 else None


def _in_json(text: str, request: Request) -> LabelPosition | None:
    schema: Any = request.expects.schema
    name = label_name(schema)
    keys = list(re.finditer(rf'[{{,]\s*"{re.escape(name)}"\s*:\s*', text))
    if len(keys) != 1:
        return None
    labels = {option: option[2:-2] for option in request.options}
    is_number = schema["properties"][name].get("type") in ("integer", "number")
    forms = {
        option: tuple(_lower(label) + end for end in _AFTER_A_NUMBER)
        if is_number
        else (_lower(json.dumps(label, ensure_ascii=False)),)
        for option, label in labels.items()
    }
    return LabelPosition(len(_lower(text[: keys[0].end()])), forms)


def _lower(text: str) -> bytes:
    """The text in UTF-8 with ASCII letters in lower case: verdicts are read without regard to case."""
    return text.encode("utf-8", "replace").lower()
