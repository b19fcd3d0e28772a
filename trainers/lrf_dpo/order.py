"""An order of pairs in which those of one prompt come in the same micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class PromptsTogether(Sampler[int]):
    """Pairs' numbers, shuffled by prompt, so that each ``size`` of them hold as few prompts as can easily be.

    ``prompts`` names each pair's prompt. Seed and epoch decide the order; every pair comes once an epoch.
    """

    def __init__(self, prompts: Sequence[str], size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self._pairs: dict[str, list[int]] = {}
        for number, prompt in enumerate(prompts):
            self._pairs.setdefault(prompt, []).append(number)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self._pairs.values()))

    def __iter__(self) -> Iterator[int]:
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
