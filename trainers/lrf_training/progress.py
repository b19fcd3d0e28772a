"""Progress reports, the log of steps, and alarms while a training runs."""

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
    """Watches each step's metrics for a problem and reports it once; ``message`` is None until then."""

    message: str | None

    def update(self, metrics: Mapping[str, Any]) -> str | None:
        """The message at the step where the alarm goes off, else None."""
        ...


class ProgressCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Reports each logged step and appends it to ``training_log.jsonl``.

    A line has ``step``, ``steps``, ``loss``, ``grad_norm`` and ``learning_rate``; null stands for a number that isn't
    finite. A resumed run continues its log, and the alarms see the earlier steps.

    Parameters
    ----------
    log: path of ``training_log.jsonl``.
    report: takes a step's metrics.
    metrics: from the Trainer's logs to further metrics of a step.
    alarms: see :class:`Alarm`.
    """

    def __init__(
        self,
        log: Path,
        report: Callable[[Mapping[str, JSON]], None],
        *,
        metrics: Callable[[Mapping[str, float]], dict[str, JSON]] = lambda _: {},
        alarms: Sequence[Alarm] = (),
    ) -> None:
        self.log, self.report, self.metrics, self.alarms = log, report, metrics, alarms
        self.last: dict[str, JSON] = {}

    @property
    def messages(self) -> list[JSON]:
        """Messages of the alarms that have gone off."""
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
            with suppress(ValueError):  # a partial line: the disk was full, or rank 0 is writing it
                yield json.loads(line)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the totals at the end
            return
        values: dict[str, JSON] = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        values |= self.metrics(logs)
        self.last = {"step": state.global_step, "steps": state.max_steps, **values}
        self.last = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self.last.items()
        }
        messages = [message for alarm in self.alarms if (message := alarm.update(self.last))]
        if state.is_world_process_zero:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.last) + "\n")
            self.report(self.last | ({"alarm": "; ".join(messages)} if messages else {}))
