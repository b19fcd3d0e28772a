"""TRL: reward functions for GRPO and RLOO (async), and for OnlineDPO (sync)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrf_doors.rows import requests_of, text_of
from lrf_doors.shaping import PLAIN, Shape
from lrf_doors.source import Outcome, Source

_NOT_COLUMNS = {"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}


@dataclass(frozen=True)
class RewardFunction:
    """A reward function of TRL. ``dimension``: give that rating in place of the reward, None where the reward is.

    GRPO and RLOO leave out a row whose rewards are all None, so None is their word for a missing reward.
    """

    source: Source
    shape: Shape = PLAIN
    dimension: str | None = None

    @property
    def __name__(self) -> str:
        return f"lrf_{self.dimension or 'reward'}"

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        requests, places, answers = _asked(prompts, completions, columns)
        return self._values(await self.source.outcomes(requests), places, answers)

    def _values(self, outcomes: list[list[Outcome]], places: list[list[int]], answers: list[str]) -> list[float | None]:
        values: list[float | None] = [None] * len(answers)
        for group, found in zip(places, outcomes, strict=True):
            given = [self.source.value(self._rated(one), None) for one in found]
            shaped = self.shape(given, [len(answers[i]) for i in group])
            for place, value in zip(group, shaped, strict=True):
                values[place] = value
        return values

    def _rated(self, outcome: Outcome) -> Outcome:
        if self.dimension is None or outcome.reward is None:
            return outcome
        return outcome._replace(reward=outcome.ratings[self.dimension])


class SyncRewardFunction(RewardFunction):
    """The same for OnlineDPO, which awaits nothing and has no word for a missing reward."""

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:  # type: ignore[override]
        requests, places, answers = _asked(prompts, completions, columns)
        return self._values(self.source.outcomes_sync(requests), places, answers)


def reward_func(where: str, *, on_missing: str | float = "missing", shape: Shape = PLAIN, dimension: str | None = None,
                **source: Any) -> RewardFunction:  # fmt: skip
    """A reward function for GRPO and RLOO; ``source`` are further settings of :class:`lrf_doors.source.Source`."""
    return RewardFunction(Source(where, on_missing=on_missing, **source), shape, dimension)


def sync_reward_func(
    where: str, *, on_missing: str | float = "error", shape: Shape = PLAIN, **source: Any
) -> RewardFunction:
    """A reward function for OnlineDPO."""
    return SyncRewardFunction(Source(where, on_missing=on_missing, **source), shape)


def _asked(
    prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[list[int]], list[str]]:
    answers = [text_of(completion) for completion in completions]
    rows = {n: c for n, c in columns.items() if n not in _NOT_COLUMNS and isinstance(c, list)}
    return *requests_of(prompts, rows, answers), answers
