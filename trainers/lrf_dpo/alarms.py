"""What is worth a word while DPO goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import isfinite
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
    """A step's figures out of TRL's logs. ``chosen_logp_delta`` is log π(y_w|x) over the reference's, in nats."""
    values: dict[str, JSON] = {name: logs[key] for key, name in _NAMES.items() if key in logs}
    return values | {"chosen_logp_delta": logs["rewards/chosen"] / beta}


class SustainedAlarm:
    """Goes off once, when ``look`` has found something in ``window`` steps one after another: not at a passing dip.

    ``look`` gets the means of the figures ``names`` over the ``window`` steps before the last ``window``, and over
    those, and returns a message or None. Steps that lack a figure are not counted.
    """

    def __init__(self, names: tuple[str, ...], look: Callable[[Means, Means], str | None], window: int = 10) -> None:
        self.names, self.look, self.window = names, look, window
        self.message: str | None = None
        self._steps: deque[Mapping[str, float]] = deque(maxlen=2 * window)
        self._in_a_row = 0

    def update(self, figures: Mapping[str, Any]) -> str | None:
        """A message at the step where the alarm goes off, else None."""
        if any(figures.get(name) is None for name in self.names):
            return None
        self._steps.append({name: figures[name] for name in self.names})
        if self.message is not None or len(self._steps) < 2 * self.window:
            return None
        steps = list(self._steps)
        message = self.look(self._means(steps[: self.window]), self._means(steps[self.window :]))
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
    """The chosen answers lie more than a nat below the reference policy, and go on falling while the margin grows."""
    delta = now["chosen_logp_delta"]
    if delta < -1.0 and delta < before["chosen_logp_delta"] and now["margin"] > before["margin"]:
        return (
            f"the chosen answers' log-probability has fallen {-delta:.1f} below the reference policy's while the "
            "margin grows; raise ce.weight, or lower learning_rate"
        )
    return None


def margin_without_accuracy(before: Means, now: Means) -> str | None:
    """The mean margin has grown, but no more than 55 % of the pairs have one: a few pairs make it."""
    if now["margin"] > 0.1 and now["margin"] > before["margin"] and now["accuracy"] < 0.55:
        return (
            f"the margin has grown to {now['margin']:.2f}, but only {now['accuracy']:.0%} of the pairs are ranked "
            "rightly: a few pairs make the margin; look for outliers among the pairs, or lower learning_rate"
        )
    return None


def reward_follows_length(before: Means, now: Means) -> str | None:
    """The margins of the last pairs follow the difference of their answers' lengths."""
    if abs(r := now["length_correlation"]) > 0.7:
        kind = "longer" if r > 0 else "shorter"
        return (
            f"the policy's reward follows the answers' length (correlation {r:.2f}): it learns to prefer {kind} "
            "answers; look at the lengths of chosen and rejected answers"
        )
    return None


class LengthCorrelation:
    """Correlation of the last pairs' margins with how much longer, in tokens, the chosen answer is. Of ``pairs`` pairs.

    None before 64 pairs are there, and where margins or lengths don't differ.
    """

    def __init__(self, pairs: int = 256) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=pairs)

    def add(self, margins: list[float], longer_by: list[float]) -> float | None:
        self._seen.extend((m, longer) for m, longer in zip(margins, longer_by, strict=True) if isfinite(m))
        if len(self._seen) < 64:
            return None
        n = len(self._seen)
        mean_x, mean_y = (sum(column) / n for column in zip(*self._seen, strict=True))
        xx = sum((x - mean_x) ** 2 for x, _ in self._seen)
        yy = sum((y - mean_y) ** 2 for _, y in self._seen)
        xy = sum((x - mean_x) * (y - mean_y) for x, y in self._seen)
        return xy / (xx * yy) ** 0.5 if xx > 0 and yy > 0 else None
