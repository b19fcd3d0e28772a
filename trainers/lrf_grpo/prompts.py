"""``prompts.jsonl`` to token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_training.tokens import EncodedRow, Messages, chat_ids, messages, read_jsonl


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt as chat messages, and its place in the file from 0."""

    where: str
    place: int
    messages: Messages
    tools: Any = None


def read(path: Path) -> Iterator[PromptRow]:
    """The rows of ``path`` in order. Raises :class:`lrf.errors.StageError` for one that isn't a prompt."""
    for place, (where, row) in enumerate(read_jsonl(path, missing="run the stage `data` first")):
        yield PromptRow(where, place, messages(row, "prompt", where), row.get("tools"))


def encode(row: PromptRow, tokenizer: Any, answer_tokens: int) -> EncodedRow:
    """Columns ``prompt`` (token ids up to where the answer begins) and ``place`` (one number).

    Raises :class:`lrf.errors.StageError` if the chat template fails.
    """
    options = {"tools": row.tools} if row.tools else {}
    prompt = chat_ids(tokenizer, row.where, row.messages, add_generation_prompt=True, **options)
    return EncodedRow({"prompt": prompt}, longest=len(prompt) + answer_tokens, numbers={"place": [row.place]})
