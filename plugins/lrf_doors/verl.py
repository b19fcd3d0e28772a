"""verl: ``compute_score`` for ``reward.custom_reward_function`` (path: pkg://lrf_doors.verl), and a reward manager."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from lrf_doors.rows import request_of, text_of
from lrf_doors.source import Source


async def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, *, where: str,
                        on_missing: str | float = "error", deadline_s: float | None = None,
                        **_: Any) -> dict[str, float]:  # fmt: skip
    """The reward as ``score``, the ratings, and ``missing``: 1 where a number (``on_missing``) stands in for a reward.

    ``ground_truth`` or ``extra_info`` name document and question, or ``extra_info["prompt"]`` has the prompt.
    ``where``, ``on_missing`` and ``deadline_s`` (``reward_kwargs``) are those of :class:`lrf_doors.source.Source`.
    """
    source, info = Source(where, deadline_s=deadline_s, on_missing=on_missing), dict(extra_info or {})
    request = request_of(info.get("prompt"), {**info, "ground_truth": ground_truth}, [text_of(solution_str)])
    ((outcome,),) = await source.outcomes([request])
    ratings = {name: math.nan if rating is None else rating for name, rating in outcome.ratings.items()}
    return {"score": source.value(outcome, math.nan), "missing": float(outcome.reward is None), **ratings}


def register_reward_manager(where: str, name: str = "lrf", **settings: Any) -> type:
    """Register verl's naive reward manager with :func:`compute_score`, in a module of VERL_USE_EXTERNAL_MODULES."""
    from verl.experimental.reward_loop.reward_manager import register
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    ours = partial(compute_score, where=where, **settings)

    class LrfRewardManager(NaiveRewardManager):  # type: ignore[misc]
        def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **others: Any) -> None:
            super().__init__(config, tokenizer, ours, **others)

    register(name)(LrfRewardManager)
    return LrfRewardManager
