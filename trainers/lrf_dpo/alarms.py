"""What is worth a word while DPO goes on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from lrf.types import JSON

_NAMES = {
    "loss/ce": "ce",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp",
}


def figures(logs: Mapping[str, float], beta: float) -> dict[str, JSON]:
    """A step's figures out of TRL's logs. ``chosen_logp_delta`` is log π(y_w|x) over the reference's, in nats."""
    return {name: logs[key] for key, name in _NAMES.items()} | {"chosen_logp_delta": logs["rewards/chosen"] / beta}


class CollapseAlarm:
    """Goes off once, when the chosen answers grow unlikely while the margin grows: the policy unlearns both.

    Looks at the last ``window`` steps against the ``window`` before. ``nats`` is how far the chosen answers' mean
    log-probability must lie below the reference policy's.
    """

    def __init__(self, window: int = 10, nats: float = 1.0) -> None:
        self.window, self.nats = window, nats
        self.message: str | None = None
        self._history: list[tuple[float, float]] = []

    def update(self, figures: Mapping[str, Any]) -> str | None:
        """A message at the step where the alarm goes off, else None."""
        self._history = [*self._history[1 - 2 * self.window :], (figures["chosen_logp_delta"], figures["margin"])]
        if self.message is not None or len(self._history) < 2 * self.window:
            return None
        before, now = (
            [sum(column) / self.window for column in zip(*part, strict=True)]
            for part in (islice(self._history, self.window), islice(self._history, self.window, None))
        )
        if now[0] < -self.nats and now[0] < before[0] and now[1] > before[1]:
            self.message = (
                f"the chosen answers' log-probability has fallen {-now[0]:.1f} below the reference policy's while the "
                "margin grows; raise ce.weight, or lower learning_rate"
            )
            return self.message
        return None
