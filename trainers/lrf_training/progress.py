"""What is said while training goes on: progress, the log of steps, alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from lrf.types import JSON


class Alarm(Protocol):
    """Looks at each step's figures. Goes off once; ``message`` is then what it said."""

    message: str | None

    def update(self, figures: Mapping[str, Any]) -> str | None:
        """A message at the step where the alarm goes off, else None."""
        ...


class ProgressCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Turns a Trainer's logs into progress and a line a step of ``training_log.jsonl``.

    ``figures`` makes the line's figures of the Trainer's own logs; ``loss``, ``grad_norm`` and ``learning_rate`` are
    there already. A run that is resumed goes on with its log, and the alarms know what was in it.
    """

    def __init__(
        self,
        log: Path,
        report: Callable[[Mapping[str, JSON]], None],
        *,
        figures: Callable[[Mapping[str, float]], dict[str, JSON]] = lambda _: {},
        alarms: Sequence[Alarm] = (),
    ) -> None:
        self.log, self.report, self.figures, self.alarms = log, report, figures, alarms
        self.last: dict[str, JSON] = {}

    @property
    def messages(self) -> list[JSON]:
        """What the alarms said."""
        return [alarm.message for alarm in self.alarms if alarm.message]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        past = [line for line in self._lines() if line["step"] <= state.global_step]
        for line in past:
            self.last = line
            for alarm in self.alarms:
                alarm.update(line)
        if state.is_world_process_zero:
            self.log.write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")

    def _lines(self) -> Iterator[dict[str, JSON]]:
        if not self.log.exists():
            return
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # half written: a full disk, or the first process is at it just now
                yield json.loads(line)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the totals at the end
            return
        values: dict[str, JSON] = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        values |= self.figures(logs)
        self.last = {"step": state.global_step, "steps": state.max_steps, **values}
        self.last = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self.last.items()
        }
        said = [message for alarm in self.alarms if (message := alarm.update(self.last))]
        if state.is_world_process_zero:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.last) + "\n")
            self.report(self.last | ({"alarm": "; ".join(said)} if said else {}))
