"""Scored answers or preference pairs to token ids and targets."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.chat_text import LEAVES_OUT, PROMPT_CHANGED, lost, shown
from lrf_training.tokens import EncodedRow, Messages, UnusableRowError, messages, read_jsonl

CENTRE, HALF = 5.0, 5.0
"""The target of a rating r is (r − 5) / 5: −1 for a rating of 0, 1 for a rating of 10."""

FEWEST_SAMPLES = 5
"""Of fewer samples none are held out: an agreement on one of four says nothing."""


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A prompt with an answer and its ratings, or with the chosen and rejected answers of a pair, as chats.

    ``ratings`` are 0 to 10 by dimension, None if unscored; empty for a pair. ``prompt`` is the number of messages
    before the answer. ``tools`` are definitions for the chat template.
    """

    where: str
    sample_id: str
    chats: tuple[Messages, ...]
    prompt: int
    ratings: Mapping[str, float | None]
    tools: Any = None

    @property
    def messages(self) -> Messages:
        return [message for chat in self.chats for message in chat]

    @property
    def teaches(self) -> bool:
        """Whether it is a pair or has a rating."""
        return len(self.chats) > 1 or any(rating is not None for rating in self.ratings.values())


def scored(path: Path) -> Iterator[RewardRow]:
    """The rows of ``scored.jsonl`` in order, unscored ones included."""
    for where, row in read_jsonl(path, missing="run the stage `score` first"):
        prompt = messages(row, "prompt", where)
        chat = [*prompt, *messages(row, "answer", where)]
        ratings = row.get("ratings")
        if not isinstance(ratings, dict):
            raise StageError(f"{where}: ratings must be an object of ratings by dimension")
        yield RewardRow(where, str(row["sample_id"]), (chat,), len(prompt), ratings, row.get("tools"))


def pairs(path: Path) -> Iterator[RewardRow]:
    """The rows of ``pairs.jsonl`` in order."""
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        prompt = messages(row, "prompt", where)
        chats = tuple([*prompt, *messages(row, name, where)] for name in ("chosen", "rejected"))
        yield RewardRow(where, str(row["sample_id"]), chats, len(prompt), {}, row.get("tools"))


def parts(sample_ids: Sequence[str], seed: int, held_out: float, evaluation: float) -> Callable[[str], str]:
    """From a sample's id to its part: "training", "evaluation" (while training) or "held_out" (for the end).

    ``evaluation`` is a share of what ``held_out`` leaves. Raises ValueError as :func:`held_out_below` does.
    """
    last = held_out_below(sample_ids, seed, held_out)
    rest = [sample_id for sample_id in sample_ids if not is_held_out(sample_id, seed, last)]
    between = held_out_below(rest, seed + 1, evaluation)

    def part(sample_id: str) -> str:
        if is_held_out(sample_id, seed, last):
            return "held_out"
        return "evaluation" if is_held_out(sample_id, seed + 1, between) else "training"

    return part


def held_out_below(sample_ids: Iterable[str], seed: int, share: float) -> int:
    """The bound of :func:`is_held_out`, for about this share of the samples: at least one of them, and not all.

    Raises ValueError for fewer than :data:`FEWEST_SAMPLES` and a share above 0.
    """
    if not share:
        return 0
    hashes = sorted({_hash(sample_id, seed) for sample_id in sample_ids})
    if len(hashes) < FEWEST_SAMPLES:
        raise ValueError(f"{len(hashes)} samples are too few to hold some out for evaluation")
    number = bisect_left(hashes, int(share * 2**64))
    return hashes[min(max(number, 1), len(hashes) - 1)]


def is_held_out(sample_id: str, seed: int, below: int) -> bool:
    """Whether a sample, with all its answers, is held out from training."""
    return _hash(sample_id, seed) < below


def _hash(sample_id: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{sample_id}".encode()).digest()[:8], "big")


def encode(row: RewardRow, tokenizer: Any, _: frozenset[int], dimensions: tuple[str, ...]) -> EncodedRow:
    """Token ids of each answer; for ratings also ``targets``, one for each dimension, NaN if unscored.

    The chats are written as the dimension `classifier` writes them, by the template alone. A template that leaves out a
    part of a prompt gives the remark "prompts_changed_by_template".

    Raises :class:`lrf_training.tokens.UnusableRowError` for a pair of equal answers, and if the template fails or
    leaves out a part of an answer: a rating would be learnt for a text that isn't the one that was rated.
    """
    texts = [_written(row, chat, tokenizer) for chat in row.chats]
    ids = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    tokens = sum(map(len, ids))
    for chat, text in zip(row.chats, texts, strict=True):
        if left_out := [part for message in chat[row.prompt :] for part in lost(message, text)]:
            raise UnusableRowError(LEAVES_OUT, f"lost is {shown(left_out[0])!r}; {_MEND}", tokens)
    if len(ids) > 1 and ids[0] == ids[1]:
        raise UnusableRowError("chosen and rejected are the same", f"mend the row, or {_DROP}", tokens)
    prompt = [message for message in row.chats[0][: row.prompt] if message["role"] != "assistant"]
    columns = dict(zip(("input_ids", "rejected_ids"), ids, strict=False))
    ratings = [row.ratings.get(name) for name in dimensions]
    targets = [float("nan") if rating is None else (rating - CENTRE) / HALF for rating in ratings]
    return EncodedRow(
        columns,
        longest=max(map(len, ids)),
        remarks=(PROMPT_CHANGED,) * any(lost(message, texts[0]) for message in prompt),
        numbers={"targets": targets} if dimensions else {},
    )


_DROP = "set on_bad_row: drop and max_lost"
_MEND = f"set a chat_template that writes it, or {_DROP}"


def _written(row: RewardRow, chat: Messages, tokenizer: Any) -> str:
    options = {"tools": row.tools} if row.tools else {}
    try:
        text: str = tokenizer.apply_chat_template(chat, tokenize=False, **options)
    except Exception as error:  # a template is a program: it may raise anything
        raise UnusableRowError(
            f"the chat template failed: {error}", f"set another chat_template, or {_DROP}"
        ) from error
    return text
