"""Signals that stop a training: the step at work is finished, its state is saved, and the process leaves."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from transformers import TrainerCallback

from lrf_training.processes import any_process

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Within its context, SIGTERM and SIGINT let the training stop after the step at work; a second SIGINT ends it.

    (A second SIGTERM doesn't: a machine that stops sends it to all processes, and torchrun sends its own another one.)

    ``stopped_at`` is the step after which all processes stopped, None while they haven't. Signals reach the main
    thread only; elsewhere they do what they did.
    """

    def __init__(self) -> None:
        self.stopped_at: int | None = None
        self._got: set[int] = set()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether this process got a signal to stop."""
        return bool(self._got)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and number in self._got:
            raise KeyboardInterrupt
        self._got.add(number)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if any_process(self.asked) and state.global_step < state.max_steps:
            self.stopped_at = state.global_step
            control.should_save = control.should_training_stop = True
