"""Conversations to token ids and spans of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.tokens import (
    END_ADDED,
    EncodedRow,
    Messages,
    UnusableRowError,
    chat_ids,
    common_prefix,
    messages,
    read_jsonl,
    says_something,
    with_end,
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Chat messages; those of the assistant from index ``start`` on are trained.

    ``where`` locates the row in errors; ``tools`` are definitions for the chat template, if any.
    """

    where: str
    messages: Messages
    start: int = 0
    tools: Any = None


def read(path: Path) -> Iterator[Conversation]:
    """The rows of a source in order. Raises :class:`lrf.errors.StageError` if a row isn't a conversation."""
    for where, row in read_jsonl(path, missing="give the path of a JSONL file of conversations"):
        if "messages" in row:
            yield Conversation(where, messages(row, "messages", where), tools=row.get("tools"))
        elif "prompt" in row and "completion" in row:
            prompt = _as_messages(row, "prompt", "user", where)
            yield Conversation(
                where, prompt + _as_messages(row, "completion", "assistant", where), len(prompt), row.get("tools")
            )
        else:
            raise StageError(
                f"{where}: expected `messages`, or `prompt` and `completion`; got {', '.join(sorted(row)) or 'nothing'}"
            )


def read_pairs(path: Path, prompt_template_sha256: str) -> Iterator[Conversation]:
    """The chosen answers of the run's pairs in order. Raises :class:`lrf.errors.StageError`."""
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        made_with = row.get("prompt_template_sha256")
        if made_with is not None and made_with != prompt_template_sha256:
            raise StageError(
                f"{where}: the prompt was made with the template {made_with}, but the pipeline's "
                f"policy.prompt_template is {prompt_template_sha256}; run `pairs` again, or put the old template back"
            )
        prompt = messages(row, "prompt", where)
        yield Conversation(where, prompt + messages(row, "chosen", where), len(prompt), row.get("tools"))


def _as_messages(row: Mapping[str, Any], name: str, role: str, where: str) -> Messages:
    text = row[name]
    return [{"role": role, "content": text}] if isinstance(text, str) else messages(row, name, where)


def encode(row: Conversation, tokenizer: Any, stop_ids: frozenset[int] = frozenset()) -> EncodedRow:
    """Token ids (``input_ids``) of a conversation and the ``spans`` of its answers: start, end, start, end, …

    A span begins after the template's generation prompt and includes what the template writes after the answer (the
    end-of-turn token). If it writes no token of ``stop_ids``, the next one is trained where it ends generation (as
    GLM's ``<|user|>`` does), and after the last answer the end-of-sequence token is added.

    Remarks: "answers_rewritten_by_template" for each earlier answer that the template renders differently once more
    turns follow (without thoughts, say), which isn't trained; "answers_with_weight_0"; "end_of_turn_added". Raises
    :class:`lrf_training.tokens.UnusableRowError` if no answer is left to train on.
    """
    own = range(row.start, len(row.messages))
    answers = [i for i in own if row.messages[i]["role"] == "assistant" and says_something(row.messages[i])]
    ignored = [i for i in answers if row.messages[i].get("weight") == 0]
    answers = [i for i in answers if i not in ignored]
    options = {"tools": row.tools} if row.tools else {}
    ids = chat_ids(tokenizer, row.where, row.messages, **options)
    if not answers:
        mend = "mend the row, or set on_bad_row: drop and max_lost"
        raise UnusableRowError("there is no answer to train on", mend, len(ids))
    spans: list[int] = []
    rewritten = 0
    for i in answers:
        until = ids if i == len(row.messages) - 1 else chat_ids(tokenizer, row.where, row.messages[: i + 1], **options)
        same = common_prefix(until, ids)
        if same < len(until) and stop_ids.issuperset(until[same:]):  # Phi-3 ends a whole chat with <|endoftext|>
            until = until[:same]
        if ids[: len(until)] != until:
            rewritten += 1
            continue
        prompt = chat_ids(tokenizer, row.where, row.messages[:i], add_generation_prompt=True, **options) if i else []
        start = max(1, common_prefix(prompt, until))  # nothing predicts the first token
        if start < len(until):
            spans += [start, len(until)]
    if not spans:
        raise UnusableRowError(
            "through the chat template, no answer can be told apart",
            "look at the chat template, or set on_bad_row: drop and max_lost",
            len(ids),
        )
    whole = _with_ends(ids, spans, tokenizer, stop_ids)
    remarks = ("answers_rewritten_by_template",) * rewritten + ("answers_with_weight_0",) * len(ignored)
    return EncodedRow(
        {"input_ids": whole},
        longest=len(whole),
        remarks=remarks + (END_ADDED,) * (len(whole) > len(ids)),
        numbers={"spans": [float(place) for place in spans]},
    )


def _with_ends(ids: list[int], spans: list[int], tokenizer: Any, stop_ids: frozenset[int]) -> list[int]:
    """Extend the spans of answers without an end, in place; returns the token ids with an end after the last answer."""
    for n in range(1, len(spans), 2):
        start, end = spans[n - 1 : n + 1]
        if end < len(ids) and ids[end] in stop_ids and stop_ids.isdisjoint(ids[start:end][-4:]):
            spans[n] = end + 1
    if spans[-1] < len(ids):
        return ids
    whole = [*ids[: spans[-2]], *with_end(ids[spans[-2] :], tokenizer, stop_ids)] if stop_ids else ids
    spans[-1] = len(whole)
    return whole
