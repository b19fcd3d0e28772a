"""TRL: reward functions for GRPO and RLOO (async), and for OnlineDPO (sync)."""

from __future__ import annotations

from typing import Any

from lrf_doors.batches import BatchRewards
from lrf_doors.shaping import PLAIN, Shape
from lrf_doors.source import Source


class RewardFunction(BatchRewards):
    """For GRPO and RLOO, which leave out a row whose rewards are all None: their word for a missing reward."""

    @property
    def __name__(self) -> str:
        return f"lrf_{self.dimension or 'reward'}"

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        return await self.rewards(prompts, completions, columns)


class SyncRewardFunction(RewardFunction):
    """For OnlineDPO, which awaits nothing and has no word for a missing reward."""

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:  # type: ignore[override]
        return self.rewards_sync(prompts, completions, columns)


def reward_func(where: str, *, on_missing: str | float = "missing", shape: Shape = PLAIN, dimension: str | None = None,
                **source: Any) -> RewardFunction:  # fmt: skip
    """A reward function for GRPO and RLOO; ``source`` are further settings of :class:`lrf_doors.source.Source`."""
    return RewardFunction(Source(where, on_missing=on_missing, **source), shape, dimension)


def sync_reward_func(where: str, *, on_missing: str | float = "error", shape: Shape = PLAIN,
                     **source: Any) -> RewardFunction:  # fmt: skip
    """A reward function for OnlineDPO."""
    return SyncRewardFunction(Source(where, on_missing=on_missing, **source), shape)
