"""Alarms for known failure modes of DPO: chosen answers that become unlikely, few pairs, length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import isfinite
from statistics import StatisticsError, correlation
from typing import Any

from lrf.types import JSON

_NAMES = {
    "loss/ce": "ce",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp",
    "rewards/length_correlation": "length_correlation",
}

Means = Mapping[str, float]


def step_metrics(logs: Mapping[str, float], beta: float) -> dict[str, JSON]:
    """A step's metrics from TRL's logs. ``chosen_logp_delta`` is log π(y_w|x) − log π_ref(y_w|x), in nats."""
    values: dict[str, JSON] = {name: logs[key] for key, name in _NAMES.items() if key in logs}
    return values | {"chosen_logp_delta": logs["rewards/chosen"] / beta}


class SustainedAlarm:
    """An alarm that goes off once its condition has held for ``window`` consecutive steps.

    Parameters
    ----------
    names: the metrics to watch; steps without one of them are ignored.
    condition: takes the metrics' means over two windows, the earlier and the last, and returns a message or None.
    window: number of steps.
    """

    def __init__(
        self, names: tuple[str, ...], condition: Callable[[Means, Means], str | None], window: int = 10
    ) -> None:
        self.names, self.condition, self.window = names, condition, window
        self.message: str | None = None
        self._steps: deque[Mapping[str, float]] = deque(maxlen=2 * window)
        self._in_a_row = 0

    def update(self, metrics: Mapping[str, Any]) -> str | None:
        """The message at the step where the alarm goes off, else None."""
        if any(metrics.get(name) is None for name in self.names):
            return None
        self._steps.append({name: metrics[name] for name in self.names})
        if self.message is not None or len(self._steps) < 2 * self.window:
            return None
        steps = list(self._steps)
        message = self.condition(self._means(steps[: self.window]), self._means(steps[self.window :]))
        self._in_a_row = self._in_a_row + 1 if message else 0
        if self._in_a_row < self.window:
            return None
        self.message = message
        return message

    def _means(self, steps: list[Mapping[str, float]]) -> Means:
        return {name: sum(step[name] for step in steps) / len(steps) for name in self.names}


def alarms(window: int = 10) -> list[SustainedAlarm]:
    """The alarms of DPO."""
    return [
        SustainedAlarm(("chosen_logp_delta", "margin"), chosen_falls, window),
        SustainedAlarm(("margin", "accuracy"), margin_without_accuracy, window),
        SustainedAlarm(("length_correlation",), reward_follows_length, window),
    ]


def chosen_falls(before: Means, now: Means) -> str | None:
    """The best answers are a nat less likely than under the reference, and falling while the margin grows."""
    delta = now["chosen_logp_delta"]
    if delta < -1.0 and delta < before["chosen_logp_delta"] and now["margin"] > before["margin"]:
        return (
            f"the chosen answers' log-probability has fallen {-delta:.1f} below the reference policy's while the "
            "margin grows; raise ce.weight, or lower learning_rate"
        )
    return None


def margin_without_accuracy(before: Means, now: Means) -> str | None:
    """The mean margin has grown, but less than 55 % of the pairs are ranked correctly."""
    if now["margin"] > 0.1 and now["margin"] > before["margin"] and now["accuracy"] < 0.55:
        return (
            f"the margin has grown to {now['margin']:.2f}, but only {now['accuracy']:.0%} of the pairs are ranked "
            "correctly: a few pairs make up the margin; look for outliers among the pairs, or lower learning_rate"
        )
    return None


def reward_follows_length(before: Means, now: Means) -> str | None:
    """Margins correlate with the difference of the answers' lengths."""
    if abs(r := now["length_correlation"]) > 0.7:
        kind = "longer" if r > 0 else "shorter"
        return (
            f"the policy's reward follows the answers' length (correlation {r:.2f}): it learns to prefer {kind} "
            "answers; look at the lengths of chosen and rejected answers"
        )
    return None


Points = Sequence[tuple[float, float]]
"""(margin, tokens by which the better answer is longer) of each pair of one prompt's answers that was compared."""


class LengthCorrelation:
    """Pearson's correlation of margins with how many tokens longer the better answer is, over the last ``rows`` rows.

    A row is a prompt with its answers: one pair or several. None for fewer than 64 rows, and if margins or lengths
    don't vary.
    """

    def __init__(self, rows: int = 256) -> None:
        self._last: deque[Points] = deque(maxlen=rows)

    def add(self, rows: Sequence[Points]) -> float | None:
        self._last.extend(finite for row in rows if (finite := [point for point in row if isfinite(point[0])]))
        if len(self._last) < 64:
            return None
        try:
            return correlation(*zip(*chain.from_iterable(self._last), strict=True))
        except StatisticsError:  # one side is constant
            return None
