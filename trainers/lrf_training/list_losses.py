"""Losses of one prompt's answers, from their implicit rewards.

An answer's implicit reward is β · (log π(y|x) − log π_ref(y|x)) (DPO, arXiv 2305.18290, section 4). With two answers,
each of these losses is DPO's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

from lrf_training.rounding import ROUNDING

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From implicit rewards and rewards, (answers,) each, to a loss: 0 where no answer is better than another."""


def better(rewards: torch.Tensor, margin: float = 0.0) -> torch.Tensor:
    """(answers, answers): whether the first answer's reward is above the second's, by at least ``margin``."""
    difference = rewards[:, None] - rewards[None]
    return (difference > ROUNDING) & (difference >= margin - ROUNDING)


def all_pairs(
    implicit: torch.Tensor, rewards: torch.Tensor, *, margin: float = 0.0, weighted: bool = False
) -> torch.Tensor:
    """DPO's loss (arXiv 2305.18290, equation 7) over all pairs of a prompt's answers.

    That is the pairwise logistic loss of LiPO (arXiv 2402.01878, section 3.2), or RankNet's. ``weighted``: the mean's
    weights are the differences of the rewards, as LiPO-λ weighs by the difference of gains (equation 9), but without
    its discount by rank, since each place of a list is as good a lesson here.

    Parameters
    ----------
    implicit: (answers,), implicit rewards.
    rewards: (answers,), what they were scored.
    margin: pairs whose rewards differ by less are left out.
    """
    pairs = better(rewards, margin)
    if not pairs.any():
        return implicit.sum() * 0
    losses = -logsigmoid((implicit[:, None] - implicit[None])[pairs])
    weights = (rewards[:, None] - rewards[None])[pairs].to(losses) if weighted else torch.ones_like(losses)
    return (weights * losses).sum() / weights.sum()


def plackett_luce(implicit: torch.Tensor, rewards: torch.Tensor, *, margin: float = 0.0) -> torch.Tensor:
    """DPO's loss for rankings under the Plackett–Luce model (arXiv 2305.18290, appendix A.3, equation 20).

    The first place is won against all others, the second against the rest, and so on: −log of the product of these
    softmaxes; ListMLE with implicit rewards. Two differences: answers whose rewards differ by less than ``margin``
    don't compete, so ties teach nothing; and it is the mean over the places, not the sum, so that the cross-entropy
    term and ``max_grad_norm`` mean the same for lists of any length.
    """
    worse = better(rewards, margin)
    places = worse.any(1)
    if not places.any():
        return implicit.sum() * 0
    compete = worse | torch.eye(len(rewards), dtype=torch.bool, device=worse.device)
    others = implicit[None].expand(len(rewards), -1).masked_fill(~compete, -torch.inf)
    return (others.logsumexp(1) - implicit)[places].mean()
