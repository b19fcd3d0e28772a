"""Evaluation on held-out rows while training, early stopping, and the best checkpoints."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import EarlyStoppingCallback, TrainerCallback

from lrf.errors import StageError
from lrf.types import JSON
from lrf_training.processes import on_first_process, rank, summed, world
from lrf_training.settings import Evaluation

Sums = Mapping[str, tuple[float, float]]
"""Figures by name, each as a sum and the number of what was summed."""

FEWEST = 5
"""Of fewer prompts none can be held out."""


def split(dataset: Any, evaluation: Evaluation, seed: int) -> tuple[Any, Any]:
    """The rows to train on, and those held out: a share of the prompts, by a hash of their tokens and the seed.

    All rows of a prompt (of a conversation, if there is no prompt) are on one side. Raises
    :class:`lrf.errors.StageError` for fewer than :data:`FEWEST` prompts.
    """
    column = next(name for name in ("prompt_ids", "prompt", "input_ids") if name in dataset.column_names)
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


def held_out_means(rows: Any, size: int, sums: Callable[[Sequence[Mapping[str, Any]]], Sums]) -> dict[str, float]:
    """Means over ``rows``, each counted once, whatever the number of processes. Called in all of them.

    ``sums`` takes up to ``size`` rows. All processes call it equally often, since each may have a shard of the model; a
    process that has no rows left takes some that another counts.
    """
    starts = range(0, len(rows), size)
    totals: dict[str, list[float]] = {}
    for first in range(0, len(starts), world()):
        place = first + rank()
        start = starts[place if place < len(starts) else 0]
        for name, pair in sums([rows[i] for i in range(start, min(start + size, len(rows)))]).items():
            total = totals.setdefault(name, [0.0, 0.0])
            if place < len(starts):
                total[:] = total[0] + float(pair[0]), total[1] + float(pair[1])
    flat = summed([number for name in sorted(totals) for number in totals[name]])
    return {name: flat[2 * n] / flat[2 * n + 1] for n, name in enumerate(sorted(totals))}


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
    """Reports each evaluation, and keeps the ``keep_best`` best exports in the folder ``best``.

    ``evaluations.jsonl`` has a line an evaluation: ``step``, the measure and the trainer's own figures. Set ``trainer``
    after the trainer is created, and call :meth:`finish` after it has run. ``measure`` is "loss", of which the lowest
    is best, or "reward", of which the highest is.
    """

    def __init__(self, evaluation: Evaluation, output: Path, measure: Literal["loss", "reward"] = "loss") -> None:
        self.evaluation, self.log, self.folder = evaluation, output / "evaluations.jsonl", output / "best"
        self.trainer: Any = None
        self.measure, self.values = measure, dict[int, float]()

    def callbacks(self) -> list[Any]:
        """This callback, and the one that stops early."""
        patience = self.evaluation.patience
        return [self, *([EarlyStoppingCallback(early_stopping_patience=patience)] if patience else [])]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        lines = on_first_process(lambda: self._kept_lines(state.global_step))
        self.values = {line["step"]: line[self.measure] for line in lines}

    def _kept_lines(self, step: int) -> list[dict[str, Any]]:
        """The evaluations until this step; later ones, of a training that was killed, are forgotten."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        lines = [line for line in lines if line["step"] <= step]
        self.log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return lines

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **_: Any) -> None:
        step, value = state.global_step, float(metrics[f"eval_{self.measure}"])
        own = {name.removeprefix("eval_"): value for name, value in metrics.items() if "/" in name}
        self.values[step] = value
        self.trainer.report({"phase": "evaluated", "step": step, f"held_out_{self.measure}": value})
        if state.is_world_process_zero:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, self.measure: value, **own}) + "\n")
        if step in self._best():
            self.folder.mkdir(exist_ok=True)
            self.trainer.export_to(self._path(step))
            on_first_process(self._remove_others)

    def _best(self) -> list[int]:
        return self._ranked()[: self.evaluation.keep_best]

    def _ranked(self) -> list[int]:
        """Steps, the best first; of equal ones, the earlier."""
        sign = 1 if self.measure == "loss" else -1
        return sorted(self.values, key=lambda step: (sign * self.values[step], step))

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
        best_step = next(iter(self._ranked()), None)
        return {
            "held_out_rows": len(self.trainer.eval_dataset),
            f"held_out_{self.measure}": list(self.values.values())[-1] if self.values else None,
            f"best_held_out_{self.measure}": None if best_step is None else self.values[best_step],
            "best_step": best_step,
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
