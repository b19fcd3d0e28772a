"""What a run has come to so far, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lrf import Reward, Usage


class Totals:
    """Sums over calls and rewards.

    Attributes
    ----------
    samples: how many are scored.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()

    def add_call(
        self, seconds: float, error: str | None, usage: Usage, cost: float | None, currency: str | None
    ) -> None:
        self._counts["calls"] += 1
        self._counts["calls/failed"] += error is not None
        self._counts["tokens/prompt"] += usage.prompt_tokens
        self._counts["tokens/completion"] += usage.completion_tokens
        self._counts["tokens/cached"] += usage.cached_tokens
        self._add("seconds/call", seconds)
        if cost is not None:
            self._sums[f"cost/{currency}"] += cost  # type: ignore[assignment]

    def add_rewards(self, rewards: Iterable[Reward]) -> None:
        self.samples += 1
        for reward in rewards:
            self._counts["candidates"] += 1
            self._counts["candidates/unscored"] += reward.reward is None
            self._add("reward/mean", reward.reward)
            for name, rating in reward.ratings.items():
                self._add(f"rating/{name}", rating)

    def figures(self) -> dict[str, float]:
        """Counts, sums of money by currency, and means; a mean is there once there is something to take it of."""
        means = {name: self._sums[name] / number for name, number in self._numbers.items()}
        money = {name: value for name, value in self._sums.items() if name.startswith("cost/")}
        return {"samples": self.samples, **self._counts, **money, **means}

    def _add(self, name: str, value: float | None) -> None:
        """Count a number for a mean. What is missing isn't a zero."""
        if value is not None:
            self._sums[name] += value  # type: ignore[assignment]
            self._numbers[name] += 1
