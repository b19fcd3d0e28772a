"""From ``pairs.jsonl`` to token ids: every row checked, every length counted, nothing cut."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from lrf.errors import StageError
from lrf.types import JSON

Messages = list[dict[str, str]]

_SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("prompt_ids", "chosen_ids", "rejected_ids")])
_ROWS_A_BATCH = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: a prompt and two answers to it, as chat messages. ``where`` names it in errors."""

    where: str
    prompt: Messages
    chosen: Messages
    rejected: Messages


@dataclass(frozen=True, slots=True)
class Rules:
    """What may become of a pair that can't be used. ``limit`` is in tokens; None stands for no limit."""

    on_bad_pair: str
    on_too_long: str
    max_lost: float
    limit: int | None
    limit_name: str


@dataclass(slots=True)
class Counts:
    """What the file held. Tokens count the prompt and each answer once; ``longest`` is of a prompt with one answer."""

    pairs: int = 0
    tokens: int = 0
    longest: int = 0
    largest_id: int = 0
    lost_pairs: int = 0
    lost_tokens: int = 0
    lost_by_reason: Counter[str] = field(default_factory=Counter)
    prompt_ends_changed: int = 0


def read(path: Path, prompt_template_sha256: str) -> Iterator[Pair]:
    """The rows in order.

    Raises :class:`lrf.errors.StageError` where the file isn't one of pairs, or a row's prompt was made with another
    template than the pipeline's.
    """
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}; run the stage `pairs` first") from None
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _row(line, f"{path}:{number}", prompt_template_sha256)


def _row(line: str, place: str, prompt_template_sha256: str) -> Pair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise StageError(f"{place}: no JSON ({error}); run the stage `pairs` again") from None
    if not isinstance(row, dict):
        raise StageError(f"{place}: expected an object with prompt, chosen and rejected")
    where = f"{place} (sample {row['sample_id']})" if "sample_id" in row else place
    made_with = row.get("prompt_template_sha256")
    if made_with is not None and made_with != prompt_template_sha256:
        raise StageError(
            f"{where}: the prompt was made with the template {made_with}, but the pipeline's policy.prompt_template "
            f"is {prompt_template_sha256}; run the stage `pairs` again, or put the old template back"
        )
    return Pair(where, *(_messages(row, name, where) for name in ("prompt", "chosen", "rejected")))


def _messages(row: Mapping[str, JSON], name: str, where: str) -> Messages:
    messages = row.get(name)
    if not isinstance(messages, list) or not messages:
        raise StageError(f"{where}: {name} must be a list of messages, each with a role and a content")
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise StageError(f"{where}: each message of {name} must have a role and a content, both text")
    return messages


def tokenise(path: Path, prompt_template_sha256: str, tokenizer: Any, rules: Rules, into: Path) -> Counts:
    """Write the pairs' token ids to the Arrow file ``into``, and say what was counted.

    A row's columns are ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, lists of int32; prompt with chosen, and
    prompt with rejected, are what the policy sees. One batch of rows is in memory at a time.

    Raises :class:`lrf.errors.StageError` when nothing is left, when a pair can't be used and the rules say stop, and
    when more pairs are lost than they allow.
    """
    counts = Counts()
    batch: list[dict[str, list[int]]] = []
    with pa.OSFile(str(into), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for pair in read(path, prompt_template_sha256):
            if (row := _tokenise_one(pair, tokenizer, rules, counts)) is not None:
                batch.append(row)
            if len(batch) == _ROWS_A_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, _SCHEMA))
                batch.clear()
        writer.write_batch(pa.RecordBatch.from_pylist(batch, _SCHEMA))
    seen = counts.pairs + counts.lost_pairs
    if not seen:
        raise StageError(f"{path}: no pair to train on; left_out.jsonl beside it lists each sample with its reason")
    reasons = ", ".join(f"{reason}: {n}" for reason, n in counts.lost_by_reason.items())
    if counts.lost_pairs > rules.max_lost * seen:
        raise StageError(
            f"{path}: {counts.lost_pairs} of {seen} pairs ({counts.lost_pairs / seen:.1%}; {reasons}) can't be used, "
            f"more than max_lost: {rules.max_lost} allows; raise it, or see to the pairs"
        )
    if not counts.pairs:
        raise StageError(f"{path}: none of {seen} pairs can be used ({reasons})")
    return counts


def _tokenise_one(pair: Pair, tokenizer: Any, rules: Rules, counts: Counts) -> dict[str, list[int]] | None:
    def lose(reason: str, tokens: int = 0) -> None:
        counts.lost_pairs += 1
        counts.lost_tokens += tokens
        counts.lost_by_reason[reason] += 1

    if problem := _unusable(pair):
        if rules.on_bad_pair == "stop":
            raise StageError(f"{pair.where}: {problem}; mend the row, or set on_bad_pair: drop and max_lost")
        lose(problem)
        return None

    prompt = _ids(tokenizer, pair, pair.prompt, add_generation_prompt=True)
    chosen = _ids(tokenizer, pair, pair.prompt + pair.chosen)
    rejected = _ids(tokenizer, pair, pair.prompt + pair.rejected)
    # Some templates end a prompt otherwise when an answer follows (an empty block of thoughts, say): the answer then
    # begins where the three part.
    start = min(_common_prefix(prompt, chosen), _common_prefix(prompt, rejected))
    row = {"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}
    tokens = sum(map(len, row.values()))
    longest = max(len(chosen), len(rejected))

    if not start or not row["chosen_ids"] or not row["rejected_ids"] or row["chosen_ids"] == row["rejected_ids"]:
        problem = "through the chat template, prompt and answers can't be told apart"
        if rules.on_bad_pair == "stop":
            raise StageError(f"{pair.where}: {problem}; look at the chat template, or set on_bad_pair: drop")
        lose(problem, tokens)
        return None
    if rules.limit is not None and longest > rules.limit:
        if rules.on_too_long == "stop":
            raise StageError(
                f"{pair.where}: prompt and answer have {longest} tokens, more than {rules.limit_name} ({rules.limit}); "
                "nothing is cut: take a model with a larger window, raise max_tokens, or set on_too_long: drop with "
                "max_lost"
            )
        lose(f"longer than {rules.limit_name}", tokens)
        return None

    counts.pairs += 1
    counts.tokens += tokens
    counts.longest = max(counts.longest, longest)
    counts.largest_id = max(counts.largest_id, max(chosen), max(rejected))
    counts.prompt_ends_changed += start < len(prompt)
    return row


def _unusable(pair: Pair) -> str | None:
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not any(message["content"].strip() for message in answer):
            return f"the {name} answer is empty"
    if pair.chosen == pair.rejected:
        return "chosen and rejected are the same"
    return None


def _ids(tokenizer: Any, pair: Pair, messages: Messages, **options: bool) -> list[int]:
    try:
        encoding = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    except Exception as error:  # a template is a program: it may raise anything
        raise StageError(f"{pair.where}: the chat template failed: {error}; set another chat_template") from error
    return list(encoding["input_ids"])


def _common_prefix(a: list[int], b: list[int]) -> int:
    if b[: len(a)] == a:
        return len(a)
    return next(i for i, (x, y) in enumerate(zip(a, [*b, -1], strict=False)) if x != y)
