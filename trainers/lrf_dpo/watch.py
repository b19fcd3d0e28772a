"""What is said while training goes on: progress, the log of steps, alarms, checkpoints on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lrf.types import JSON

_NAMES = {
    "loss": "loss",
    "loss/ce": "ce",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}


class CollapseAlarm:
    """Goes off once, when the chosen answers grow unlikely while the margin grows: the policy unlearns both.

    Looks at the last ``window`` steps against the ``window`` before. ``nats`` is how far the chosen answers' mean
    log-probability must lie below the reference policy's.
    """

    def __init__(self, window: int = 10, nats: float = 1.0) -> None:
        self.window, self.nats = window, nats
        self.message: str | None = None
        self._history: list[tuple[float, float]] = []

    def update(self, chosen_logp_delta: float, margin: float) -> str | None:
        """A message at the step where the alarm goes off, else None."""
        self._history = [*self._history[1 - 2 * self.window :], (chosen_logp_delta, margin)]
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


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Turns TRL's logs into progress and a line a step of ``training_log.jsonl``; saves every so many steps."""

    def __init__(
        self,
        *,
        beta: float,
        log: Path,
        report: Callable[[Mapping[str, JSON]], None],
        save: Callable[[int], None],
        save_every: int | None,
    ) -> None:
        self.beta, self.report, self.save, self.save_every = beta, report, save, save_every
        self.alarm = CollapseAlarm()
        self.last: dict[str, JSON] = {}
        self._log = log
        self._log.write_text("", encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the totals at the end
            return
        values: dict[str, JSON] = {name: logs[key] for key, name in _NAMES.items() if key in logs}
        values["chosen_logp_delta"] = logs["rewards/chosen"] / self.beta
        self.last = {"step": state.global_step, "steps": state.max_steps, **values}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.last) + "\n")
        alarm = self.alarm.update(values["chosen_logp_delta"], values["margin"])
        self.report(self.last | ({"alarm": alarm} if alarm else {}))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.save_every and state.global_step % self.save_every == 0:
            self.save(state.global_step)
