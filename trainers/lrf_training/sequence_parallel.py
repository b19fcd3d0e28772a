"""Batches for sequence parallelism: the processes of a group get the same rows, and each its part of every sequence.

accelerate has an adapter for this that hands rows on between processes. It can't be resumed in the middle of an epoch,
and fails on gloo where rows differ in length. Here no process needs to hear of another's rows: all go through the same
order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accelerate.data_loader import BatchSamplerShard
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Sampler

from lrf_training.processes import rank, world

IGNORE_INDEX = -100
"""The label of a token that is read and not trained."""


def shard_batch(batch: Mapping[str, Tensor], processes: int) -> dict[str, Tensor]:
    """This process's part of a batch whose tensors are (rows, length), ``length`` a multiple of ``processes``.

    ``labels`` become ``shift_labels``, each at the place of the token that predicts it, which may be another process's.
    """
    tensors = {**batch, "shift_labels": pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)}
    del tensors["labels"]
    me = rank() % processes
    return {name: tensor.chunk(processes, dim=1)[me].contiguous() for name, tensor in tensors.items()}


def use_group_batches(trainer: Any, processes: int) -> None:
    """Let each group of ``processes`` neighbours go through its members' batches together. Before ``train``."""

    def loader(loader: Any, _: Any) -> DataLoader[Any]:
        batches = _GroupBatchSampler(loader.batch_sampler, processes)
        return _GroupDataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)

    trainer.accelerator.deepspeed_ulysses_dl_adapter = loader


class _GroupBatchSampler(Sampler[list[int]]):
    """The batches of all members of this process's group, one member's after another's."""

    def __init__(self, mine: BatchSamplerShard, processes: int) -> None:
        self.whole, self.processes = mine.batch_sampler, processes
        first = rank() // processes * processes
        self.members = range(first, first + processes)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.whole.sampler, "set_epoch"):
            self.whole.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return self.processes * len(self._of(self.members[0], _KnownBatches(self.whole)))

    def __iter__(self) -> Iterator[list[int]]:
        drawn = _KnownBatches(
            self.whole, list(self.whole)
        )  # once: a random sampler goes on with every time it is asked
        for batches in zip(*(self._of(member, drawn) for member in self.members), strict=True):
            yield from batches

    @staticmethod
    def _of(member: int, batches: _KnownBatches) -> BatchSamplerShard:
        return BatchSamplerShard(batches, num_processes=world(), process_index=member)


class _KnownBatches:
    """Drawn batches, as accelerate wants to see them."""

    def __init__(self, whole: Any, drawn: list[list[int]] | None = None) -> None:
        self.batch_size, self.drop_last, self.drawn, self._length = whole.batch_size, whole.drop_last, drawn, len(whole)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.drawn or ())


class _GroupDataLoader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        batches = self.batch_sampler
        assert isinstance(batches, _GroupBatchSampler)
        batches.set_epoch(epoch)
