"""Rows as trainers hand them on, made into requests: one for all rows about the same document and question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.rows.asked import reference
from lrf.rows.chat_text import answer_text

LABELS = ("lrf", "label", "labels", "ground_truth", "extra_info")
"""Columns that may say which document and question a row belongs to, besides the fields of a request themselves."""


def request_of(prompt: Any, columns: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """The request for answers to a prompt. Document and question are what the columns name, else the prompt's."""
    named = dict(reference(dict(columns)))
    for name in LABELS:
        named = {**reference(columns.get(name)), **named}
    complete = "messages" in named or ("query" in named and bool({"document_ids", "context"} & named.keys()))
    return {**named, "answers": list(answers), **({} if complete else {"prompt": prompt})}


def requests_of(
    prompts: Sequence[Any], columns: Mapping[str, Sequence[Any]], answers: Sequence[str]
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """The requests for rows, and for each of them the places of its rows."""
    groups: dict[str, list[int]] = {}
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(prompts))]
    requests = [request_of(prompt, row, []) for prompt, row in zip(prompts, rows, strict=True)]
    for place, request in enumerate(requests):
        groups.setdefault(json.dumps(request, sort_keys=True, default=str), []).append(place)
    places = list(groups.values())
    return [{**requests[group[0]], "answers": [answers[i] for i in group]} for group in places], places


def text_of(completion: Any) -> str:
    """A completion's text: the text itself, or what the assistant says in turns."""
    if isinstance(completion, str):
        return answer_text(completion)
    turns = [t for t in completion if isinstance(t, Mapping) and t.get("role", "assistant") == "assistant"]
    content = turns[-1].get("content") if turns else ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return answer_text(str(content or ""))
