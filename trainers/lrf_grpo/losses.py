"""Losses of whole answers, where TRL's GRPO has losses of tokens: RLOO's, and DPO's of answers that were just written.

All take numbers of a micro-batch's answers, (groups, answers of a group). ``scored`` says which of them count.
"""

from __future__ import annotations

import torch

from lrf_training.list_losses import all_pairs


def rloo(
    log_ratios: torch.Tensor, advantages: torch.Tensor, scored: torch.Tensor, clip: float, clip_high: float
) -> torch.Tensor:
    """RLOO's loss (arXiv 2402.14740, section 3.3), with the clipped ratio of whole answers that TRL's trainer has.

    The mean is over all answers, and an answer that isn't scored adds 0 to it.

    Parameters
    ----------
    log_ratios: log π(y|x) − log π_old(y|x), where π_old wrote the answers.
    advantages: rewards less the mean of the group's others, see :func:`leave_one_out`.
    clip, clip_high: how far the ratio may move from 1, downwards and upwards.
    """
    ratios = log_ratios.exp()
    clipped = ratios.clamp(1 - clip, 1 + clip_high)
    return -(torch.minimum(ratios * advantages, clipped * advantages) * scored).mean()


def leave_one_out(values: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Each value less the mean of the group's other scored ones; 0 where there is no other, or it isn't scored."""
    count = scored.sum(1, keepdim=True)
    others = ((values * scored).sum(1, keepdim=True) - values) / (count - 1).clamp(min=1)
    return (values - others) * (scored & (count > 1))


def online_dpo(implicit: torch.Tensor, rewards: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """DPO over all pairs of a group (arXiv 2402.04792, with all pairs in place of one), the mean over the groups.

    Parameters
    ----------
    implicit: β · (log π(y|x) − log π_ref(y|x)).
    rewards: any numbers in the order of the rewards.
    """
    losses = [all_pairs(i[s], r[s]) for i, r, s in zip(implicit, rewards, scored, strict=True)]
    return torch.stack(losses).mean()
