"""Evaluation on held-out rows while training, early stopping, and the best checkpoints."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from lrf.errors import StageError
from lrf.types import JSON
from lrf_training.checkpoint import export
from lrf_training.processes import on_first_process
from lrf_training.settings import Evaluation

FEWEST = 5
"""Of fewer prompts none can be held out."""


def split(dataset: Any, evaluation: Evaluation, seed: int) -> tuple[Any, Any]:
    """The rows to train on, and those held out: a share of the prompts, by a hash of their tokens and the seed.

    All rows of a prompt (of a conversation, if there is no prompt) are on one side. Raises
    :class:`lrf.errors.StageError` for fewer than :data:`FEWEST` prompts.
    """
    column = "prompt_ids" if "prompt_ids" in dataset.column_names else "input_ids"
    hashes = [_hash(ids, seed) for ids in dataset[column]]
    prompts = sorted(set(hashes))
    if len(prompts) < FEWEST:
        raise StageError(
            f"train.evaluation: {len(prompts)} different prompts are too few to hold some out; leave it out, or give "
            f"{FEWEST} at least"
        )
    below = prompts[min(max(int(evaluation.held_out * len(prompts)), 1), len(prompts) - 1)]
    sides: tuple[list[int], list[int]] = ([], [])
    for row, number in enumerate(hashes):
        sides[number < below].append(row)
    return dataset.select(sides[0]), dataset.select(sides[1])


def _hash(ids: list[int], seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} ".encode() + array("q", ids).tobytes()).digest()[:8], "big")


def evaluation_arguments(evaluation: Evaluation | None, micro_batch: int) -> dict[str, Any]:
    """Keyword arguments of ``TrainingArguments``."""
    if evaluation is None:
        return {}
    return {
        "eval_strategy": "steps",
        "eval_steps": evaluation.every,
        "per_device_eval_batch_size": micro_batch,
        "prediction_loss_only": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }


class BestCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """Reports each evaluation, and keeps the ``keep_best`` exports of the lowest loss in the folder ``best``.

    ``evaluations.jsonl`` has a line an evaluation: ``step``, ``loss`` and the trainer's own figures. Set ``trainer``
    after the trainer is created, and call :meth:`finish` after it has run.
    """

    def __init__(self, evaluation: Evaluation, output: Path) -> None:
        self.evaluation, self.log, self.folder = evaluation, output / "evaluations.jsonl", output / "best"
        self.trainer: Any = None
        self.losses: dict[int, float] = {}

    def callbacks(self) -> list[Any]:
        """This callback, and the one that stops early."""
        patience = self.evaluation.patience
        return [self, *([EarlyStoppingCallback(early_stopping_patience=patience)] if patience else [])]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        lines = on_first_process(lambda: self._kept_lines(state.global_step))
        self.losses = {line["step"]: line["loss"] for line in lines}

    def _kept_lines(self, step: int) -> list[dict[str, Any]]:
        """The evaluations until this step; later ones, of a training that was killed, are forgotten."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        lines = [line for line in lines if line["step"] <= step]
        self.log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return lines

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **_: Any) -> None:
        step, loss = state.global_step, float(metrics["eval_loss"])
        own = {name.removeprefix("eval_"): value for name, value in metrics.items() if "/" in name}
        self.losses[step] = loss
        self.trainer.report({"phase": "evaluated", "step": step, "held_out_loss": loss})
        if state.is_world_process_zero:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "loss": loss, **own}) + "\n")
        if step in self._best():
            self.folder.mkdir(exist_ok=True)
            export(self.trainer.write_export, self._path(step))
            on_first_process(self._remove_others)

    def _best(self) -> list[int]:
        """Steps of the lowest losses, the lowest first; of equal ones, the earlier."""
        return sorted(self.losses, key=lambda step: (self.losses[step], step))[: self.evaluation.keep_best]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def _remove_others(self) -> None:
        keep = {self._path(step) for step in self._best()}
        for path in self.folder.iterdir():
            if path not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def finish(self) -> dict[str, JSON]:
        """Make the best checkpoint the training's (with ``keep_best``); returns figures of the result."""
        if self.evaluation.keep_best and (best := self._best()):
            chosen = self._path(best[0])
            on_first_process(lambda: export_copy(chosen, self.trainer.checkpoint))
        lowest = min(self.losses, key=lambda step: (self.losses[step], step), default=None)
        return {
            "held_out_rows": len(self.trainer.eval_dataset),
            "held_out_loss": list(self.losses.values())[-1] if self.losses else None,
            "best_held_out_loss": None if lowest is None else self.losses[lowest],
            "best_step": lowest,
        }


def export_copy(source: Path, checkpoint: Path) -> None:
    """Replace the checkpoint by a copy of another, by renaming: one of both is always there."""
    new, old = checkpoint.with_name(checkpoint.name + ".new"), checkpoint.with_name(checkpoint.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    if checkpoint.exists():
        checkpoint.rename(old)
    new.rename(checkpoint)
    shutil.rmtree(old, ignore_errors=True)
