"""Each sequence over several processes (DeepSpeed Ulysses, arXiv 2309.14509), with shared prompts.

Each process forwards its part of the shared sequence. For attention DeepSpeed hands every process the whole sequence
with a share of the heads, so that split attention works as it does without. The hidden states that predict an answer's
token lie in one part or another; they are summed over the group, each process adding its own. All of a group then have
the same log-probabilities and loss.

Gradients: the sum's backward pass adds up what the group's equal losses give, so a process's part of the sequence gets
the gradient times the group's size, and ZeRO-3's mean over all processes takes that out again. (ZeRO-2 divides by the
number of groups only, DeepSpeed #5248; the settings refuse it.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import distributed
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import pad


def sequence_group() -> Any:
    """The process group that shares this process's sequences, once DeepSpeed has made it."""
    from deepspeed.utils import groups

    return groups._get_sequence_parallel_group()


def shard_inputs(kwargs: dict[str, Any], group: Any) -> dict[str, Any]:
    """The model's arguments with this process's part of ``input_ids`` and ``position_ids``, both (1, sequence)."""
    layout, size = kwargs["layout"], distributed.get_world_size(group)
    length = kwargs["input_ids"].shape[1]
    extra = -length % size
    part = (length + extra) // size
    start = distributed.get_rank(group) * part
    if extra:  # the padding is a prompt of its own, without answers
        kwargs["layout"] = replace(layout, groups=(*layout.groups, (extra, ())))
    for name in ("input_ids", "position_ids"):
        kwargs[name] = pad(kwargs[name], (0, extra))[:, start : start + part].contiguous()
    return kwargs


def gather_predicting_states(states: torch.Tensor, where: torch.Tensor, group: Any) -> torch.Tensor:
    """(1, part, hidden) of each process -> (2·pairs, longest answer, hidden): the states at ``where`` of the whole."""
    part = states.shape[1]
    local = where - distributed.get_rank(group) * part
    mine = (local >= 0) & (local < part)
    picked = torch.where(mine[..., None], states[0, local.clamp(0, part - 1)], 0)
    summed: torch.Tensor = all_reduce(picked, group=group)  # type: ignore[no-untyped-call]  # torch says no types here
    return summed
