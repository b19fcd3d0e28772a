"""verl: a reward function (``reward.custom_reward_function``) and a reward manager.

In its settings: ``path: pkg://lrf_doors.verl`` (or this file's path), ``name: compute_score``,
``reward_kwargs: {where: http://…}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from lrf_doors.rows import request_of, text_of
from lrf_doors.source import Source


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    where: str,
    on_missing: str | float = "error",
    deadline_s: float | None = None,
    **_: Any,
) -> dict[str, float]:
    """The reward as ``score`` and the ratings by dimension; ``missing`` is 1 where a number stands in for it.

    ``ground_truth`` or ``extra_info`` name document and question, as an id, an object, or fields of their own; or
    ``extra_info["prompt"]`` holds the prompt. verl has no word for a missing reward: ``on_missing`` is "error" (the
    naive manager then stops the training) or a number.
    """
    source = Source(where, deadline_s=deadline_s, on_missing=on_missing)
    info = dict(extra_info or {})
    request = request_of(info.get("prompt"), {**info, "ground_truth": ground_truth}, [text_of(solution_str)])
    ((outcome,),) = await source.outcomes([request])
    score = source.value(outcome, math.nan)
    ratings = {name: math.nan if rating is None else rating for name, rating in outcome.ratings.items()}
    return {"score": score, "missing": float(outcome.reward is None), **ratings}


def register_reward_manager(where: str, name: str = "lrf", **settings: Any) -> type:
    """Register a reward manager of this name: verl's naive one with :func:`compute_score` and these settings.

    Call it in a module that ``VERL_USE_EXTERNAL_MODULES`` names, so that every worker has it.
    """
    from verl.experimental.reward_loop.reward_manager import register
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    ours = partial(compute_score, where=where, **settings)

    class LrfRewardManager(NaiveRewardManager):  # type: ignore[misc]
        def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **others: Any) -> None:
            super().__init__(config, tokenizer, ours, **others)

    register(name)(LrfRewardManager)
    return LrfRewardManager
