"""From scored answers, or preference pairs, to token ids and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.tokens import EncodedRow, Messages, UnusableRowError, chat_ids, messages, read_jsonl

CENTRE, HALF = 5.0, 5.0
"""A rating r is trained as the output (r − 5) / 5, so −1 is a rating of 0 and 1 a rating of 10."""


@dataclass(frozen=True, slots=True)
class RewardRow:
    """Answers to one prompt as chats: one with its ratings, or the chosen and the rejected of a pair.

    ``ratings`` are 0 to 10 by dimension, None where there is none; empty for a pair. ``tools`` are definitions that the
    chat template writes into the prompt.
    """

    where: str
    sample_id: str
    chats: tuple[Messages, ...]
    ratings: Mapping[str, float | None]
    tools: Any = None

    @property
    def messages(self) -> Messages:
        return [message for chat in self.chats for message in chat]

    @property
    def teaches(self) -> bool:
        """Whether there is anything to learn of it: a pair, or an answer with a rating."""
        return len(self.chats) > 1 or any(rating is not None for rating in self.ratings.values())


def scored(path: Path) -> Iterator[RewardRow]:
    """The rows of ``scored.jsonl``, in order; those without any rating too."""
    for where, row in read_jsonl(path, missing="run the stage `score` first"):
        chat = [*messages(row, "prompt", where), *messages(row, "answer", where)]
        ratings = row.get("ratings")
        if not isinstance(ratings, dict):
            raise StageError(f"{where}: ratings must be an object of ratings by dimension")
        yield RewardRow(where, str(row["sample_id"]), (chat,), ratings, row.get("tools"))


def pairs(path: Path) -> Iterator[RewardRow]:
    """The rows of ``pairs.jsonl``, in order."""
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        prompt = messages(row, "prompt", where)
        chats = tuple([*prompt, *messages(row, name, where)] for name in ("chosen", "rejected"))
        yield RewardRow(where, str(row["sample_id"]), chats, {}, row.get("tools"))


def is_held_out(sample_id: str, seed: int, share: float) -> bool:
    """Whether a sample is kept out of the training: all of its answers are, or none."""
    digest = hashlib.sha256(f"{seed}\0{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def encode(row: RewardRow, tokenizer: Any, dimensions: tuple[str, ...]) -> EncodedRow:
    """A column of token ids an answer; for ratings also ``targets``, a number a dimension, NaN where it has none.

    Raises :class:`lrf_training.tokens.UnusableRowError` for a pair whose answers are the same.
    """
    given = {"tools": row.tools} if row.tools else {}
    ids = [chat_ids(tokenizer, row.where, chat, **given) for chat in row.chats]
    if len(ids) > 1 and ids[0] == ids[1]:
        mend = "mend the row, or set on_bad_row: drop and max_lost"
        raise UnusableRowError("chosen and rejected are the same", mend, sum(map(len, ids)))
    columns = dict(zip(("input_ids", "rejected_ids"), ids, strict=False))
    ratings = [row.ratings.get(name) for name in dimensions]
    targets = [float("nan") if rating is None else (rating - CENTRE) / HALF for rating in ratings]
    return EncodedRow(columns, longest=max(map(len, ids)), numbers={"targets": targets} if dimensions else {})
