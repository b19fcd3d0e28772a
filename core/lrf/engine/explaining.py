"""Explanations of why an answer lost, asked for once all answers of a sample have their rewards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from lrf.engine.panel import NamedDimension
from lrf.protocols import Context, ExplainsLosers
from lrf.types import Candidate, Judgement, Reward, Sample, Unscored

Work = Callable[[Context], Awaitable[Judgement]]
"""What a dimension does in the context of one candidate."""

Run = Callable[[int, int, Work], Awaitable[Judgement | Unscored]]
"""Does this work for a candidate and a dimension (by place in sample and pipeline); errors become outcomes."""


async def explained(
    sample: Sample, rewards: Sequence[Reward], dimensions: Sequence[NamedDimension], run: Run
) -> tuple[Reward, ...]:
    """The rewards with the judgements of all but the best answer explained, by those dimensions that explain.

    A dimension explains where it rated the answer no higher than the best one (the first of several). Ratings stay as
    they are; an explanation that fails is noted in the judgement's ``extra`` and is nobody's failure.
    """
    explaining = [n for n, named in enumerate(dimensions) if getattr(named.dimension, "explains", False)]
    ranked = [reward for reward in rewards if reward.reward is not None]
    if not explaining or len(ranked) < 2:
        return tuple(rewards)
    best = max(ranked, key=lambda reward: reward.reward or 0.0)

    async def of(place: int, reward: Reward) -> Reward:
        if reward.reward is None or reward is best:
            return reward
        names = [(n, dimensions[n].name) for n in explaining]
        changed = await asyncio.gather(
            *(_explained(sample, place, n, dimensions[n], reward.judgements, best.judgements, run) for n, _ in names)
        )
        given = {name: judgement for (_, name), judgement in zip(names, changed, strict=True)}
        return replace(reward, judgements={**reward.judgements, **given})

    return tuple(await asyncio.gather(*(of(place, reward) for place, reward in enumerate(rewards))))


async def _explained(
    sample: Sample,
    place: int,
    n: int,
    named: NamedDimension,
    judgements: Mapping[str, Judgement | Unscored],
    best: Mapping[str, Judgement | Unscored],
    run: Run,
) -> Judgement | Unscored:
    judgement, rival, dimension = judgements[named.name], best[named.name], named.dimension
    if isinstance(judgement, Unscored) or isinstance(rival, Unscored) or judgement.rating > rival.rating:
        return judgement
    assert isinstance(dimension, ExplainsLosers)
    candidate: Candidate = sample.candidates[place]
    outcome = await run(place, n, lambda ctx: dimension.explain(sample, candidate, judgement, ctx))
    if isinstance(outcome, Unscored):
        return replace(judgement, extra={**judgement.extra, "unexplained": outcome.reason})
    return replace(outcome, rating=judgement.rating)
