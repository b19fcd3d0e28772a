"""The Messages API: bodies out, replies in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrf.http.finish import finish_of, unknown_word
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import prompt_text
from lrf.types import JSON
from lrf_anthropic.prefixes import Mark


def message_body(
    model: str, request: Request, *, max_tokens: int, temperature: float | None, mark: Mark | None = None
) -> dict[str, JSON]:
    """The body of a request: the whole prompt as one user message. ``temperature`` None is left out.

    With a ``mark`` the message is in blocks, and the prompt up to the mark is cached.
    """
    content: JSON = prompt_text(request.prompt)
    if mark is not None:
        content = [{"type": "text", "text": text} for text in (*mark.texts, mark.rest)]
        content[-2]["cache_control"] = {"type": "ephemeral"}
    body: dict[str, JSON] = {
        "model": model,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": content}],
    }
    if temperature is not None:
        body["temperature"] = temperature
    return body


def is_message(value: Any) -> bool:
    """Whether JSON is a message: it has a list of content blocks."""
    return isinstance(value, dict) and isinstance(value.get("content"), list)


def read_message(value: Mapping[str, Any]) -> Reply:
    """The reply in a message, whose ``content`` is a list of blocks: its text blocks, joined."""
    content, ended = value["content"], value.get("stop_reason")
    return Reply(
        text=_joined(content, "text"),
        finish=finish_of(ended),
        usage=_usage(value.get("usage")),
        model=value["model"] if isinstance(value.get("model"), str) else None,
        reasoning=_joined(content, "thinking") or None,
        finish_word=unknown_word(ended),
    )


def _joined(content: list[Any], kind: str) -> str:
    """The texts of the blocks of a type, each in the field of the type's name."""
    blocks = (block for block in content if isinstance(block, dict) and block.get("type") == kind)
    return "".join(block[kind] for block in blocks if isinstance(block.get(kind), str))


def _usage(usage: Any) -> Usage:
    """The reported tokens, else 0. ``input_tokens`` excludes those read from or written to the cache."""
    if not isinstance(usage, dict):
        return Usage()
    cached = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    prompt = _count(usage.get("input_tokens")) + cached + written
    return Usage(prompt, _count(usage.get("output_tokens")), cached, written_tokens=written)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
