"""Scored answers or preference pairs to token ids and targets."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.tokens import EncodedRow, Messages, UnusableRowError, chat_ids, messages, read_jsonl

CENTRE, HALF = 5.0, 5.0
"""The target of a rating r is (r − 5) / 5: −1 for a rating of 0, 1 for a rating of 10."""

FEWEST_SAMPLES = 5
"""Of fewer samples none are held out: an agreement on one of four says nothing."""


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A prompt with an answer and its ratings, or with the chosen and rejected answers of a pair, as chats.

    ``ratings`` are 0 to 10 by dimension, None if unscored; empty for a pair. ``tools`` are definitions for the chat
    template.
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
        """Whether it is a pair or has a rating."""
        return len(self.chats) > 1 or any(rating is not None for rating in self.ratings.values())


def scored(path: Path) -> Iterator[RewardRow]:
    """The rows of ``scored.jsonl`` in order, unscored ones included."""
    for where, row in read_jsonl(path, missing="run the stage `score` first"):
        chat = [*messages(row, "prompt", where), *messages(row, "answer", where)]
        ratings = row.get("ratings")
        if not isinstance(ratings, dict):
            raise StageError(f"{where}: ratings must be an object of ratings by dimension")
        yield RewardRow(where, str(row["sample_id"]), (chat,), ratings, row.get("tools"))


def pairs(path: Path) -> Iterator[RewardRow]:
    """The rows of ``pairs.jsonl`` in order."""
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        prompt = messages(row, "prompt", where)
        chats = tuple([*prompt, *messages(row, name, where)] for name in ("chosen", "rejected"))
        yield RewardRow(where, str(row["sample_id"]), chats, {}, row.get("tools"))


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

    Raises :class:`lrf_training.tokens.UnusableRowError` for a pair of equal answers.
    """
    options = {"tools": row.tools} if row.tools else {}
    ids = [chat_ids(tokenizer, row.where, chat, **options) for chat in row.chats]
    if len(ids) > 1 and ids[0] == ids[1]:
        mend = "mend the row, or set on_bad_row: drop and max_lost"
        raise UnusableRowError("chosen and rejected are the same", mend, sum(map(len, ids)))
    columns = dict(zip(("input_ids", "rejected_ids"), ids, strict=False))
    ratings = [row.ratings.get(name) for name in dimensions]
    targets = [float("nan") if rating is None else (rating - CENTRE) / HALF for rating in ratings]
    return EncodedRow(columns, longest=max(map(len, ids)), numbers={"targets": targets} if dimensions else {})
