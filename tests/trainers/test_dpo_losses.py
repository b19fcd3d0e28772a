"""Losses of lists against their formulas written out, a term at a time."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from lrf_training.list_losses import all_pairs, plackett_luce

IMPLICIT = [0.3, -1.2, 0.8, 0.1, 0.0]
REWARDS = [7.5, 2.0, 9.0, 7.0, 2.0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pairs_by_hand(margin: float, weighted: bool) -> float:
    terms = [
        (REWARDS[i] - REWARDS[j] if weighted else 1.0, -math.log(sigmoid(IMPLICIT[i] - IMPLICIT[j])))
        for i, j in permutations(range(5), 2)
        if REWARDS[i] > REWARDS[j] and REWARDS[i] - REWARDS[j] >= margin
    ]
    return sum(weight * loss for weight, loss in terms) / sum(weight for weight, _ in terms)


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_pairs_is_the_mean_of_each_pairs_dpo_loss(margin: float, weighted: bool) -> None:
    found = all_pairs(torch.tensor(IMPLICIT), torch.tensor(REWARDS), margin=margin, weighted=weighted)
    assert float(found) == pytest.approx(pairs_by_hand(margin, weighted), rel=1e-5)


def test_listwise_is_the_likelihood_of_the_ranking_place_by_place() -> None:
    implicit, rewards = IMPLICIT[:4], REWARDS[:4]
    ranking = sorted(range(4), key=lambda n: -rewards[n])
    likelihood = 1.0
    for place, n in enumerate(ranking):
        likelihood *= math.exp(implicit[n]) / sum(math.exp(implicit[m]) for m in ranking[place:])
    found = plackett_luce(torch.tensor(implicit), torch.tensor(rewards))
    assert float(found) == pytest.approx(-math.log(likelihood) / 3, rel=1e-5)


def test_answers_within_the_margin_do_not_compete() -> None:
    """7.5 and 7.0 tie here: neither is pushed below the other."""
    implicit = torch.tensor(IMPLICIT[:4], requires_grad=True)
    (gradient,) = torch.autograd.grad(plackett_luce(implicit, torch.tensor(REWARDS[:4]), margin=1.0), implicit)
    tied = torch.tensor([IMPLICIT[0], IMPLICIT[1]], requires_grad=True)
    (alone,) = torch.autograd.grad(plackett_luce(tied, torch.tensor([7.5, 2.0])), tied)
    best = torch.softmax(torch.tensor([IMPLICIT[2], IMPLICIT[0], IMPLICIT[3], IMPLICIT[1]]), 0)
    assert float(gradient[0]) == pytest.approx((float(alone[0]) + float(best[1])) / 3, abs=1e-6)


@pytest.mark.parametrize("loss", [all_pairs, plackett_luce])
def test_of_two_answers_it_is_dpos_loss_and_of_equal_ones_nothing(loss) -> None:
    implicit = torch.tensor([-0.4, 0.9], requires_grad=True)
    assert float(loss(implicit, torch.tensor([3.0, 1.0]))) == pytest.approx(-math.log(sigmoid(-1.3)), rel=1e-6)
    nothing = loss(implicit, torch.tensor([3.0, 3.0]))
    nothing.backward()
    assert float(nothing) == 0
    assert not implicit.grad.any()


@pytest.mark.parametrize("loss", [all_pairs, plackett_luce])
def test_the_order_of_the_answers_does_not_matter(loss) -> None:
    found = {
        round(float(loss(torch.tensor(IMPLICIT)[list(order)], torch.tensor(REWARDS)[list(order)])), 5)
        for order in permutations(range(5))
    }
    assert max(found) - min(found) <= 2e-5
