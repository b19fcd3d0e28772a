"""What the body of an error says: its codes, its message, and how long to wait, in the many forms that servers use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NESTED = ("error", "Error", "errors", "detail", "base_resp", "Response", "fault", "exception")
_CODES = ("code", "type", "status", "status_code", "error_code", "errorCode", "errcode", "error_type", "Code", "reason")
_MESSAGES = (
    *("message", "msg", "detail", "error_msg", "errorMessage", "error_message", "status_msg", "errmsg", "Message"),
    *("error_description", "description", "faultstring", "title", "reason"),
)
_SUCCESS = frozenset({"0", "200", "ok", "success", "succeeded", "none", "false", "true", ""})
_LONGEST = 8_000  # characters of a page or a body that are looked at
_PAGE = re.compile(rb"\s*+(?:\xef\xbb\xbf)?\s*+<(?:!doctype\s+html|html|head|body)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"provider returned error", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as a server words it.

    Attributes
    ----------
    codes: words and numbers that could be codes, in lower case.
    status: the status (400 to 599) among them, None without one.
    message: for people; "" where the body says nothing.
    retry_after_s: seconds to wait, where the body says so.
    """

    codes: frozenset[str] = frozenset()
    status: int | None = None
    message: str = ""
    retry_after_s: float | None = None


def read_error(value: Any) -> ErrorBody:
    """What a body says, which is parsed JSON or text. Of several errors in a list, the first."""
    layers = list(_layers(value))
    codes = frozenset(str(word).lower() for layer in layers for word in _words(layer))
    statuses = [int(code) for code in codes if code.isascii() and code.isdecimal() and 400 <= int(code) < 600]
    return ErrorBody(codes, min(statuses, default=None), _message(value, layers), _retry_after_s(layers))


def holds_error(value: Any) -> bool:
    """Whether a body of status 200 says that it is an error, and holds no reply.

    For bodies of any kind: ``{"error": …}``, ``{"errors": […]}``, a list of these.
    """
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) and holds_error(one) for one in value)
    if not isinstance(value, dict) or value.get("choices") or value.get("data"):
        return False
    return any(is_error(value.get(name)) for name in ("error", "Error", "errors"))


def reads_as_error(value: Any) -> bool:
    """Whether a body that is no reply words an error in some other form: ``{"code": …, "msg": …}`` and the like."""
    if isinstance(value, list):
        return any(map(reads_as_error, value))
    if not isinstance(value, Mapping):
        return False
    return holds_error(value) or (
        bool(read_error(value).message) and any(name in value for name in (*_NESTED, *_MESSAGES))
    )


def is_error(value: Any) -> bool:
    """Whether the value of a field named "error" is one, and not ``null``, ``false`` or ``{"code": 0}``."""
    if isinstance(value, Mapping) and value:
        code = value.get("code")
        return code is None or str(code).lower() not in _SUCCESS
    return bool(value) and str(value).lower() not in _SUCCESS


def _layers(value: Any, depth: int = 4) -> Iterator[Mapping[str, Any]]:
    """The objects that hold codes and messages, the innermost error first."""
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, dict)), None)
    if not isinstance(value, Mapping):
        return
    for name in _NESTED if depth else ():
        yield from _layers(value.get(name), depth - 1)
    yield value
    for name in ("details", "metadata") if depth else ():
        yield from _layers(value.get(name), 0)


def _words(layer: Mapping[str, Any]) -> Iterator[str | int]:
    for name in _CODES:
        word = layer.get(name)
        if isinstance(word, str | int) and not isinstance(word, bool) and word != "":
            yield word


def _message(value: Any, layers: list[Mapping[str, Any]]) -> str:
    if isinstance(value, str):
        return page_text(value)
    messages: list[str] = []
    for layer in layers:
        given = (layer.get(name) for name in (*_MESSAGES, "error"))
        text = next((one for one in given if isinstance(one, str) and one.strip()), None)
        if text is not None and text not in messages and (not messages or _PLACEHOLDER.search(messages[0])):
            messages.append(text)
    raw = next((layer["raw"] for layer in layers if isinstance(layer.get("raw"), str)), None)
    if raw and messages:
        messages.append(raw)  # OpenRouter: what the provider said
    return ": ".join(messages) or _as_json(value)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False) if value else ""
    except RecursionError:
        return ""


def page_text(text: str) -> str:
    """The words of a web page, its title first; other text as it is."""
    start = text[:_LONGEST]
    if not re.match(r"\s*(?:<!doctype\s+html|<html|<head|<body)", start, re.IGNORECASE):
        return text
    words = re.sub(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", " ", start, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(re.sub(r"<[^<>]*>", " ", words).split()) or "a web page"


def is_page(body: bytes) -> bool:
    """Whether a body is a web page."""
    return _PAGE.match(body[:200]) is not None


def _retry_after_s(layers: list[Mapping[str, Any]]) -> float | None:
    """Seconds in ``retryDelay`` (Google: "12s"), ``retry_after`` or ``retry_after_seconds``."""
    for layer in layers:
        for name in ("retryDelay", "retry_after", "retry_after_seconds", "retryAfter"):
            given = layer.get(name)
            number = re.fullmatch(r"(\d{1,7}(?:\.\d{1,9})?)\s*s?", str(given)) if given is not None else None
            if number:
                return float(number[1])
    return None
