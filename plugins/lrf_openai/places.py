"""Where in a reply the judge's label stands: its mark in free text, or the value in a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrf.errors import ParseError
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import untrusted_text
from lrf.types import JSON

_AFTER_A_NUMBER = (b",", b"}", b" ", b"\n", b"\r", b"\t")


@dataclass(frozen=True, slots=True)
class LabelPosition:
    """``start`` counts bytes of the reply's text in UTF-8. ``forms``: how each option can be written there."""

    start: int
    forms: Mapping[str, tuple[bytes, ...]]


def label_name(schema: Mapping[str, JSON]) -> str:
    """The property that holds the label: the last, after the analysis."""
    return str(list(schema["properties"])[-1])


def find_place(text: str, request: Request, *, in_json: bool) -> LabelPosition | None:
    """The place of the label by which the reply is read when it is read as it is written.

    The rules are those of reading (:mod:`lrf.prompting.expectations`): a mark that could be a quotation is passed over, and
    several different ones are none. Of equal marks the first counts; the later ones repeat it. None where there is no
    label, or one that is written in another way than the options are.
    """
    try:
        value = request.expects.read(Reply(text), "json" if in_json else "text", untrusted_text(request.prompt))
    except ParseError:
        return None
    option = next((o for o in request.options if request.expects.read(Reply(o), "text", "") == value), None)
    if option is None:
        return None
    place = _json_place(text, request) if in_json else _mark_place(text, request, option)
    if place is None or not _lower(text)[place.start :].startswith(place.forms[option]):
        return None
    return place


def _mark_place(text: str, request: Request, option: str) -> LabelPosition | None:
    start = _lower(text).find(_lower(option))
    return LabelPosition(start, {o: (_lower(o),) for o in request.options}) if start >= 0 else None


def _json_place(text: str, request: Request) -> LabelPosition | None:
    schema: Any = request.expects.schema
    name = label_name(schema)
    keys = list(re.finditer(rf'[{{,]\s*"{re.escape(name)}"\s*:\s*', text))
    if len(keys) != 1:
        return None
    labels = {option: option[2:-2] for option in request.options}
    is_number = schema["properties"][name].get("type") in ("integer", "number")
    forms = {
        o: tuple(_lower(label) + end for end in _AFTER_A_NUMBER)
        if is_number
        else (_lower(json.dumps(label, ensure_ascii=False)),)
        for o, label in labels.items()
    }
    return LabelPosition(len(_lower(text[: keys[0].end()])), forms)


def _lower(text: str) -> bytes:
    """Bytes of the text in UTF-8, ASCII letters small: verdicts are read without regard to case."""
    return text.encode("utf-8", "replace").lower()
