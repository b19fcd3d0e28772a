"""The order of pairs: the same under every launcher, and with pairs of one prompt together when asked."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback


class PairSampler(Sampler[int], TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Pairs' numbers, shuffled by prompt, so that each ``size`` of them hold as few prompts as can easily be.

    ``prompts`` names each pair's prompt. Seed and epoch decide the order; every pair comes once an epoch, or ``copies``
    times one after another: each process that shares a sequence then gets the same pair. As a callback of the trainer
    it learns the epoch.
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
        for number in self._once():
            for _ in range(self.copies):
                yield number

    def _once(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

        def shuffled(length: int) -> list[int]:
            order: list[int] = torch.randperm(length, generator=generator).tolist()
            return order

        groups = list(self._pairs.values())
        full: list[list[int]] = []
        open_ones: list[list[int]] = []
        for group in (groups[i] for i in shuffled(len(groups))):
            pairs = [group[i] for i in shuffled(len(group))]
            for start in range(0, len(pairs), self.size):
                part = pairs[start : start + self.size]
                batch = next((b for b in open_ones if len(b) + len(part) <= self.size), None)
                if batch is None:
                    open_ones.append(batch := [])
                batch += part
                if len(batch) == self.size:
                    full.append(batch)
                    open_ones.remove(batch)
        # What is left doesn't fill micro-batches without taking prompts apart; it comes last.
        for batch in [*(full[i] for i in shuffled(len(full))), *open_ones]:
            yield from batch
