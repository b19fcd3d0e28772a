"""Progress reports, the log of steps, and alarms while a training runs."""

from __future__ import annotations

import json
import math
import time
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

    A line has ``step``, ``steps``, ``loss``, ``grad_norm`` and ``learning_rate``; ``tokens_per_second`` (of this step,
    over all processes, padding left out) and ``memory_gib`` (the most that rank 0 has used so far, of its GPU or else
    of the machine). Null stands for a number that isn't finite. A resumed run continues its log, and the alarms see the
    earlier steps.

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
        self._began: tuple[float, int] | None = None  # time and tokens seen, at the beginning of a step

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

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.perf_counter(), state.num_input_tokens_seen

    def _speed_and_memory(self, state: Any) -> Iterator[tuple[str, float]]:
        if self._began is not None:
            began, seen = self._began
            if state.num_input_tokens_seen > seen:
                yield (
                    "tokens_per_second",
                    round((state.num_input_tokens_seen - seen) / (time.perf_counter() - began), 1),
                )
        yield "memory_gib", round(peak_memory_gib(), 3)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the totals at the end
            return
        values: dict[str, JSON] = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        values |= {**self.metrics(logs), **dict(self._speed_and_memory(state))}
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


def peak_memory_gib() -> float:
    """The most memory that this process has used so far: of its GPU, or without one of the machine."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
