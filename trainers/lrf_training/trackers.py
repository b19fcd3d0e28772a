"""Trackers of experiments (TensorBoard, W&B, trackio, …), by transformers' callbacks: none of them can lose a training.

Each takes its key, project and address from its own environment variables; what is set here are defaults for those that
aren't set.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf.text.redaction import hide_keys, redact
from lrf.types import JSON
from lrf_training.processes import rank
from lrf_training.settings import TrainingSettings

PROJECT = "lrf"
"""The project that trackers log to, where the environment names none."""


_defaults: dict[str, str] = {}
"""The environment variables that were set here."""


def tracker_arguments(settings: TrainingSettings, job: TrainingJob) -> dict[str, Any]:
    """Keyword arguments of ``TrainingArguments``.

    Raises :class:`lrf.errors.StageError` for a tracker whose package isn't installed.
    """
    if not settings.report_to:
        return {"report_to": "none"}
    missing = [name for name in settings.report_to if importlib.util.find_spec(name) is None]
    if missing:
        raise StageError(f"train.report_to needs the package {missing[0]}: pip install {missing[0].replace('_', '-')}")
    hide_keys(os.environ)
    identity = _identity(job.output / "training")
    run = f"{job.output.parent.parent.name if job.output.parent.name == 'policy' else job.output.name}-{identity[:6]}"
    defaults = {
        # beside the checkpoint: by default they would go into the folder of training states, which is removed
        "TENSORBOARD_LOGGING_DIR": str(job.output / "tensorboard"),
        "WANDB_DIR": str(job.output),
        "WANDB_PROJECT": PROJECT,
        "WANDB_RUN_ID": identity,
        "WANDB_RESUME": "allow",
        # what a training prints, and its code and repository, stay here
        **{"WANDB_CONSOLE": "off", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true", "WANDB_DISABLE_CODE": "true"},
    }
    for name, value in defaults.items():
        if os.environ.get(name) in (None, _defaults.get(name)):  # of an earlier training in this process
            os.environ[name] = _defaults[name] = value
    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    return {"report_to": list(settings.report_to), "run_name": run, "project": project}


def _identity(states: Path) -> str:
    """The name of this training's run, which a resumed one continues: it is kept with the training's states."""
    file = states / "tracker_run"
    if rank():  # trackers are rank 0's
        return ""
    if not file.exists():
        states.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid.uuid4().hex[:12], encoding="ascii")
    return file.read_text(encoding="ascii")


def guard(callbacks: list[Any], trackers: list[str], report: Callable[[Mapping[str, JSON]], None]) -> None:
    """Make the ``trackers`` among a trainer's callbacks end by themselves at their first error, which is reported."""
    from transformers.integrations import get_reporting_integration_callbacks

    kinds = {kind: name for name in trackers for kind in get_reporting_integration_callbacks([name])}
    for callback in callbacks:
        if (name := kinds.get(type(callback))) is not None:
            _guard(callback, name, report)


def _guard(callback: Any, name: str, report: Callable[[Mapping[str, JSON]], None]) -> None:
    failed = False

    def guarded(event: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(event)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed
            if failed:
                return None
            try:
                return event(*args, **kwargs)
            except Exception as error:  # no network, no key, a full disk, a server's mood
                failed = True
                said = str(error).strip().splitlines() or [type(error).__name__]
                report({"note": f"the tracker {name} is left out, and the training goes on: {redact(said[0])}"})
                return None

        return call

    for event in dir(callback):
        if event.startswith("on_"):
            setattr(callback, event, guarded(getattr(callback, event)))
