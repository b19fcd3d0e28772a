"""pydantic's errors in the words of someone who writes a pipeline: what is wrong, and what is allowed."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lrf.config.problems import KeyPath, Problems
from lrf.config.yaml_document import YamlDocument
from lrf.plugin.suggest import did_you_mean
from lrf.rows.declared import declared_at, keys_of
from lrf.text.redaction import redact

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "bytes": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "iterable": "a list",
    "dict": "a block of keys",
    "mapping": "a block of keys",
    "model": "a block of keys",
    "dataclass": "a block of keys",
    "none_required": "nothing",
}
_OF_TYPE = re.compile(
    r"(int|float|decimal|bool|string|bytes|path|list|tuple|set|iterable|dict|mapping|model|dataclass)"
    r"_(type|parsing|parsing_size|from_float|sub_type|attributes_type)|(finite_number|none_required)"
)
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def report(
    error: ValidationError,
    model: type[BaseModel],
    path: KeyPath,
    document: YamlDocument,
    problems: Problems,
    also_allowed: Iterable[str] = (),
) -> None:
    """Add the mistakes that pydantic reports in the block at ``path`` to the problems.

    ``also_allowed``: keys of the block that are not of this model.
    """
    by_place: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_place.setdefault(_place(details, path, problems), []).append(details)
    for place, errors in by_place.items():
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in by_place)
        if deeper and all(_OF_TYPE.fullmatch(d["type"]) for d in errors):
            continue  # another member of the union failed deeper inside: that one is meant
        models, described = declared_at(model, place[len(path) :])
        expected = list(dict.fromkeys(e for d in errors if (e := _expected(d, described))))
        if expected:
            message = f"expected {' or '.join(expected)}{_got(errors[0], place, document, expected)}"
        else:
            allowed = [*also_allowed, *keys_of(models)] if len(place) == len(path) + 1 else keys_of(models)
            message = "; ".join(dict.fromkeys(_other(d, place, allowed, described, document) for d in errors))
        problems.add(message, place)


def _place(details: ErrorDetails, path: KeyPath, problems: Problems) -> KeyPath:
    """The place of an error in the file: pydantic's location without the parts that name members of a union."""
    *inner, last = details["loc"] or (None,)
    for part in inner:
        if part is not None and (*path, part) in problems.lines:
            path = (*path, part)
    if last is not None and (details["type"] == "missing" or (*path, last) in problems.lines):
        path = (*path, last)
    return path


def _expected(details: ErrorDetails, field: FieldInfo | None) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if match := _OF_TYPE.fullmatch(kind):
        kind_expected = _EXPECTED[match[1] or match[3]]
        limits = _limits(field) if kind_expected.endswith("number") else ""
        return f"{kind_expected}, {limits}" if limits else kind_expected
    if kind in _OUT_OF_RANGE:
        return _limits(field) or details["msg"].removeprefix("Input should be ")
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    return ""


def _limits(field: FieldInfo | None) -> str:
    """``at least 0 and at most 2``, from the field's declaration."""
    bounds: dict[str, Any] = {}
    for constraint in _metadata(field.annotation, field.metadata) if field else ():
        for bound in ("ge", "gt", "le", "lt"):
            if (value := getattr(constraint, bound, None)) is not None:
                bounds[bound] = value
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[bound]} {bounds[bound]}" for bound in words if bound in bounds)


def _metadata(annotation: Any, own: Iterable[Any]) -> Iterator[Any]:
    for item in own:
        yield from item.metadata if isinstance(item, FieldInfo) else (item,)
    for argument in typing.get_args(annotation):
        yield from _metadata(argument, getattr(argument, "__metadata__", ()))


def _got(details: ErrorDetails, place: KeyPath, document: YamlDocument, expected: Sequence[str]) -> str:
    value = details["input"]
    hidden = document.hidden(place)
    if hidden is not None:
        return f"; got {hidden}"
    if value is None:
        return "; got nothing"
    if isinstance(value, Mapping):
        return "; got a block of keys"
    if isinstance(value, list | tuple):
        return "; got a list"
    if isinstance(value, bool):
        shown = str(value).lower()
    else:
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…"
    hint = " (put it in quotes)" if "text" in expected and not isinstance(value, str) else ""
    near = ""
    if details["type"] in ("literal_error", "enum") and isinstance(value, str):
        near = did_you_mean(value, re.findall(r"'([^']*)'", expected[0]))
    return f"; got {shown}{hint}{near}"


def _other(
    details: ErrorDetails, place: KeyPath, allowed: Sequence[str], field: FieldInfo | None, document: YamlDocument
) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        keys = f"allowed: {', '.join(allowed)}" if allowed else "no key is allowed here"
        return f"unknown key; {keys}{did_you_mean(str(place[-1]), allowed)}"
    if kind == "missing":
        description = f": {field.description}" if field and field.description else ""
        return f"missing; it must be given{description}"
    if kind in ("value_error", "assertion_error"):
        return redact(str(details["ctx"]["error"]))
    message = redact(details["msg"])
    return message[:1].lower() + message[1:]
