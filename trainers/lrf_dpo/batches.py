"""Micro-batches of prompts with their answers: one kind for pairs and for lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from lrf_dpo.reference import REFERENCE
from lrf_dpo.rows import answers_of

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Lists:
    """Which answers of a micro-batch belong to which prompt, and what is known of them.

    It isn't a tensor, so that nothing casts the numbers: DeepSpeed has a batch's floats in bfloat16, where −500 is off
    by up to 1.

    Parameters
    ----------
    lengths: number of answers of each prompt, in order.
    rewards: (answers,), float64.
    reference: (answers,), float64: the stored log-probabilities under the reference policy, or None.
    """

    lengths: tuple[int, ...]
    rewards: torch.Tensor
    reference: torch.Tensor | None

    def split(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(answers, …) by prompt."""
        parts: tuple[torch.Tensor, ...] = torch.split(values, list(self.lengths))
        return parts

    @property
    def best(self) -> torch.Tensor:
        """(prompts,): each prompt's answer with the highest reward; of several, the first."""
        starts = [sum(self.lengths[:n]) for n in range(len(self.lengths))]
        return torch.tensor(starts) + torch.stack([rewards.argmax() for rewards in self.split(self.rewards)])


class ListCollator:
    """Data collator for rows of :func:`lrf_dpo.rows.token_row`.

    Parameters
    ----------
    batch_of: makes the model's inputs from (prompt, answer) token ids: :func:`padded`, or
        :func:`lrf_training.prefix_sharing.share_prompts`.
    pad_token_id: for ``batch_of``.
    """

    def __init__(self, batch_of: Callable[[Sequences, int], dict[str, Any]], pad_token_id: int) -> None:
        self.batch_of, self.pad_token_id = batch_of, pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        answers = [answers_of(row) for row in rows]
        sequences = [
            (row["prompt_ids"], answer) for row, of_row in zip(rows, answers, strict=True) for answer in of_row
        ]
        lists = Lists(
            lengths=tuple(map(len, answers)),
            rewards=_joined(rows, "rewards"),
            reference=_joined(rows, REFERENCE) if REFERENCE in rows[0] else None,
        )
        return {**self.batch_of(sequences, self.pad_token_id), "lists": lists}


def padded(sequences: Sequences, pad_token_id: int) -> dict[str, Any]:
    """Each prompt with each answer, padded on the right.

    >>> batch = padded([([1, 2, 3], [4, 5]), ([1, 2, 3], [6])], pad_token_id=0)
    >>> batch["input_ids"], batch["completion_mask"]
    (tensor([[1, 2, 3, 4, 5],
            [1, 2, 3, 6, 0]]), tensor([[0, 0, 0, 1, 1],
            [0, 0, 0, 1, 0]]))
    """
    ids = [torch.tensor([*prompt, *answer]) for prompt, answer in sequences]
    of_answers = [torch.tensor([0] * len(prompt) + [1] * len(answer)) for prompt, answer in sequences]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
        "completion_mask": pad_sequence(of_answers, batch_first=True),
    }


def _joined(rows: Sequence[Mapping[str, Any]], column: str) -> torch.Tensor:
    return torch.tensor([value for row in rows for value in row[column]], dtype=torch.float64)
