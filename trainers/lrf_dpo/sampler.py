"""The order of pairs: independent of the launcher, and optionally with pairs of one prompt together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback


class PairSampler(Sampler[int], TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Indices of pairs, shuffled so that each micro-batch of ``size`` pairs has few different prompts (first fit).

    Also a callback of the trainer, from which it gets the epoch. Seed and epoch decide the order.

    Parameters
    ----------
    prompts: each pair's prompt, or anything that identifies it.
    size: pairs of a micro-batch.
    seed: of the shuffling.
    copies: how often each index is repeated: the processes that share a sequence then get the same pair.
    """

    def __init__(self, prompts: Sequence[Hashable], size: int, seed: int, copies: int = 1) -> None:
        self.size, self.seed, self.copies, self.epoch = size, seed, copies, 0
        self._pairs: dict[Hashable, list[int]] = {}
        for number, prompt in enumerate(prompts):
            self._pairs.setdefault(prompt, []).append(number)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.epoch = int((state.epoch or 0) + 1e-6)

    def __len__(self) -> int:
        return self.copies * sum(map(len, self._pairs.values()))

    def __iter__(self) -> Iterator[int]:
        for number in self._one_epoch():
            for _ in range(self.copies):
                yield number

    def _one_epoch(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

        def shuffled(length: int) -> list[int]:
            order: list[int] = torch.randperm(length, generator=generator).tolist()
            return order

        groups = list(self._pairs.values())
        if all(len(group) == 1 for group in groups):  # the same steps, whatever the micro-batches
            yield from (groups[i][0] for i in shuffled(len(groups)))
            return
        full: list[list[int]] = []
        partial: list[list[int]] = []
        for group in (groups[i] for i in shuffled(len(groups))):
            pairs = [group[i] for i in shuffled(len(group))]
            for start in range(0, len(pairs), self.size):
                part = pairs[start : start + self.size]
                batch = next((b for b in partial if len(b) + len(part) <= self.size), None)
                if batch is None:
                    partial.append(batch := [])
                batch += part
                if len(batch) == self.size:
                    full.append(batch)
                    partial.remove(batch)
        # Micro-batches that can't be filled without splitting a prompt's pairs come last.
        for batch in [*(full[i] for i in shuffled(len(full))), *partial]:
            yield from batch
