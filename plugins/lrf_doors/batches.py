"""Rewards of a batch of completions, as TRL and ms-swift ask for them: in order, groups of one prompt together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrf_doors.rows import requests_of, text_of
from lrf_doors.shaping import PLAIN, Shape
from lrf_doors.source import Outcome, Source

_NOT_COLUMNS = {"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
"""What trainers hand on besides the data's columns."""


@dataclass(frozen=True)
class BatchRewards:
    """Rewards of completions from a source.

    Parameters
    ----------
    shape: what is made of the rewards of a group of completions to one prompt.
    dimension: give that rating in place of the reward, None where the reward is missing.
    """

    source: Source
    shape: Shape = PLAIN
    dimension: str | None = None

    async def rewards(self, prompts: Sequence[Any], completions: Sequence[Any], columns: Any) -> list[float | None]:
        """A reward for each completion, in order; what is missing is as the source's ``on_missing`` has it."""
        requests, places, answers = _asked(prompts, completions, columns)
        return self._values(await self.source.outcomes(requests), places, answers)

    def rewards_sync(self, prompts: Sequence[Any], completions: Sequence[Any], columns: Any) -> list[float | None]:
        """:meth:`rewards` for synchronous code."""
        requests, places, answers = _asked(prompts, completions, columns)
        return self._values(self.source.outcomes_sync(requests), places, answers)

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


def _asked(
    prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[list[int]], list[str]]:
    answers = [text_of(completion) for completion in completions]
    rows = {n: c for n, c in columns.items() if n not in _NOT_COLUMNS and isinstance(c, list)}
    return *requests_of(prompts, rows, answers), answers
