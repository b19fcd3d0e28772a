"""Sequence parallelism (DeepSpeed Ulysses, arXiv 2309.14509) with shared prompts.

Each process forwards its part of the shared sequence. For attention, Ulysses gives every process the whole sequence
and a share of the heads, so split attention is unchanged. The hidden states that predict answer tokens are spread over
the parts; an all-reduce over the group collects them, so all of its processes have the same log-probabilities and loss.

Gradients: the all-reduce's backward pass sums the equal gradients of the group, so each part's gradient is multiplied
by the group's size; ZeRO-3's mean over all processes cancels that. (ZeRO-2 divides by the number of groups only,
DeepSpeed #5248; the settings refuse it.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import distributed
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import pad


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


def gather_predicting_states(states: torch.Tensor, where: torch.Tensor, group: Any) -> torch.Tensor:
    """The states at positions ``where`` of the whole sequence.

    (1, part, hidden) in each process -> (2·pairs, longest answer, hidden) in all.
    """
    part = states.shape[1]
    local = where - distributed.get_rank(group) * part
    mine = (local >= 0) & (local < part)
    picked = torch.where(mine[..., None], states[0, local.clamp(0, part - 1)], 0)
    summed: torch.Tensor = all_reduce(picked, group=group)  # type: ignore[no-untyped-call]  # torch says no types here
    return summed
