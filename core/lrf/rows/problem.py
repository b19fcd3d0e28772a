"""Mistakes of a row in the words of someone who writes data: the field's path, what is wrong, what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lrf.plugin.suggest import did_you_mean
from lrf.rows.declared import declared_at, keys_of
from lrf.rows.fields import FIELDS, SampleRow
from lrf.rows.values import kind_of, quoted, text_problem

_EXPECTED = {
    "model_type": "an object",
    "list_type": "a list",
    "int_type": "a whole number",
    "string_type": "a text",
}
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
"""What others call a field."""


def problem_in(error: ValidationError) -> str:
    """The first mistake of a row. An unknown field comes first: another one is often missing because of it."""
    mistakes = error.errors(include_url=False)
    first = next((d for d in mistakes if d["type"] == "extra_forbidden"), mistakes[0])
    path = _path(first)
    for deeper in mistakes:  # of a union, the member that came furthest is the one that is meant
        if len(_path(deeper)) > len(path) and _path(deeper)[: len(path)] == path:
            first, path = deeper, _path(deeper)
    if not path and first["type"] == "model_type":
        return f"a row must be an object with the fields {', '.join(FIELDS)}; got {kind_of(first['input'])}"
    if first["type"] == "extra_forbidden":
        models, _ = declared_at(SampleRow, path)
        return unknown_field(str(path[-1]), path[:-1], models)
    same_field = [d for d in mistakes if _path(d) == path]  # the members of a union each say something
    details = next((d for d in same_field if d["type"] not in _EXPECTED), first)
    if details["type"] in _EXPECTED and details["input"] is not None:
        wanted = " or ".join(dict.fromkeys(_EXPECTED[d["type"]] for d in same_field))
        return f"{field_path(path)}: expected {wanted}, got {kind_of(details['input'])}"
    return f"{field_path(path)}{details.get('ctx', {}).get('at', '')}: {_said(details)}"


def unknown_field(key: str, around: Sequence[str | int], models: Sequence[type[BaseModel]]) -> str:
    """That the object at the path ``around``, which may be one of these models, has no such field."""
    allowed = keys_of(models)
    usual = _USUAL_NAMES.get(key.casefold())
    hint = f"; did you mean {usual}?" if usual in allowed else did_you_mean(key, allowed)
    own = " (other data of yours goes under metadata)" if "metadata" in allowed else ""
    where = f"{field_path(around)}: " if around else ""
    return f"{where}unknown field {quoted(key)}; allowed: {', '.join(allowed)}{own}{hint}"


def field_path(path: Sequence[str | int]) -> str:
    """``("candidates", 3, "text")`` as ``candidates[3].text``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _path(details: ErrorDetails) -> list[str | int]:
    """Where the mistake is: pydantic's location without the parts that name members of a union."""
    path: list[str | int] = []
    last = len(details["loc"]) - 1
    for i, part in enumerate(details["loc"]):
        known = isinstance(part, int) or declared_at(SampleRow, [*path, part])[1] is not None
        if known or (i == last and details["type"] == "extra_forbidden"):
            path.append(part)
    return path


def _said(details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind == "missing" or value is None:
        return "missing"
    if kind == "string_pattern_mismatch":
        return "is empty"
    if kind == "kind":
        return f"{details['msg']}, got {kind_of(value)}"
    if kind == "string_unicode":
        return text_problem(value) or details["msg"]
    if kind == "literal_error":
        got = quoted(value) if isinstance(value, str) else kind_of(value)
        return f"expected {details['ctx']['expected']}; got {got}"
    return details["msg"]
