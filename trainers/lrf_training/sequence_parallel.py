"""Batches for sequence parallelism: the processes of a group get the same rows, each a part of every sequence.

accelerate's adapter for this sends rows between processes. It can't resume within an epoch, and fails on gloo if rows
differ in length. Here every process iterates over the same order of rows, so none are sent.

With shared prompts (DeepSpeed Ulysses, arXiv 2309.14509) each process forwards its part of the shared sequence. For
attention, Ulysses gives every process the whole sequence and a share of the heads, so split attention is unchanged.
The hidden states that predict answer tokens are spread over the parts; an all-reduce over the group collects them, so
all of its processes have the same log-probabilities and loss.

Gradients: the all-reduce's backward pass sums the equal gradients of the group, so each part's gradient is multiplied
by the group's size; ZeRO-3's mean over all processes cancels that. (ZeRO-2 divides by the number of groups only,
DeepSpeed #5248; the settings refuse it.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Sampler

from lrf_training.processes import rank, world

IGNORE_INDEX = -100
"""Label of a token that is not part of the loss."""


def shard_batch(batch: Mapping[str, Tensor], processes: int) -> dict[str, Tensor]:
    """This process's part of a batch of tensors (rows, length), where ``processes`` divides ``length``.

    ``labels`` become ``shift_labels``, shifted before the split: a token's label may lie in another process's part.
    """
    tensors = {**batch, "shift_labels": pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)}
    del tensors["labels"]
    me = rank() % processes
    return {name: tensor.chunk(processes, dim=1)[me].contiguous() for name, tensor in tensors.items()}


def use_group_batches(trainer: Any, processes: int) -> None:
    """Give all ``processes`` ranks of a sequence-parallel group the same batches. Call it before ``train``."""

    def loader(loader: Any, _: Any) -> DataLoader[Any]:
        batches = _GroupBatchSampler(loader.batch_sampler, processes)
        return _GroupDataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)

    trainer.accelerator.deepspeed_ulysses_dl_adapter = loader


class _GroupBatchSampler(Sampler[list[int]]):
    """Batches of all ranks of this process's group, in turn."""

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
        known = _KnownBatches(self.whole, list(self.whole))  # once: a random sampler gives another order each time
        for batches in zip(*(self._of(member, known) for member in self.members), strict=True):
            yield from batches

    @staticmethod
    def _of(member: int, batches: _KnownBatches) -> BatchSamplerShard:
        return BatchSamplerShard(batches, num_processes=world(), process_index=member)


class _KnownBatches:
    """A batch sampler of known batches, for accelerate."""

    def __init__(self, whole: Any, batches: list[list[int]] | None = None) -> None:
        self.batch_size, self.drop_last, self._length = whole.batch_size, whole.drop_last, len(whole)
        self.batches = batches or []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class _GroupDataLoader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        batches = self.batch_sampler
        assert isinstance(batches, _GroupBatchSampler)
        batches.set_epoch(epoch)


def sequence_group() -> Any:
    """This process's sequence-parallel group, once DeepSpeed has created it."""
    from deepspeed.utils import groups

    return groups._get_sequence_parallel_group()


def shard_inputs(kwargs: dict[str, Any], group: Any) -> dict[str, Any]:
    """The model's arguments with ``input_ids`` and ``position_ids``, (1, sequence), cut to this process's part."""
    layout, size = kwargs["layout"], distributed.get_world_size(group)
    length = kwargs["input_ids"].shape[1]
    extra = -length % size
    part = (length + extra) // size
    start = distributed.get_rank(group) * part
    if extra:  # padding becomes a prompt without answers
        kwargs["layout"] = replace(layout, groups=(*layout.groups, (extra, ())))
    for name in ("input_ids", "position_ids"):
        kwargs[name] = pad(kwargs[name], (0, extra))[:, start : start + part].contiguous()
    return kwargs


def gather_predicting_states(states: Tensor, where: Tensor, group: Any) -> Tensor:
    """The states at positions ``where`` of the whole sequence.

    (1, part, hidden) in each process -> (2·pairs, longest answer, hidden) in all.
    """
    part = states.shape[1]
    local = where - distributed.get_rank(group) * part
    mine = (local >= 0) & (local < part)
    picked = torch.where(mine[..., None], states[0, local.clamp(0, part - 1)], 0)
    summed: Tensor = all_reduce(picked, group=group)  # type: ignore[no-untyped-call]  # torch says no types here
    return summed
