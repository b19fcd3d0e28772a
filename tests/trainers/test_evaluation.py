"""Held-out rows, early stopping and the best checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from safetensors.torch import load_file

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_sft.settings import SFTSettings
from lrf_sft.trainer import SFT
from lrf_training.evaluation import split
from lrf_training.preflight import longest_row
from lrf_training.settings import Evaluation

TINY: dict[str, Any] = {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "preflight": False}
Make = Callable[..., TrainingJob]


def sft(folder: Path, **settings: Any) -> SFT:
    rows = [{"prompt": f"question {i} " * 3, "completion": f"answer {i} " * (i % 3 + 1)} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {**TINY, "sources": [{"path": folder / "rows.jsonl"}], "global_batch": 2, **settings}
    return SFT(SFTSettings.model_validate(made))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_a_prompt_are_on_one_side_whatever_their_answers() -> None:
    prompts = [[i % 7] for i in range(28)]
    dataset = Dataset.from_dict({"prompt_ids": prompts, "answer_ids": [[i] for i in range(28)]})
    train, held_out = split(dataset, Evaluation(held_out=0.3), 1)
    sides = [{tuple(ids) for ids in side["prompt_ids"]} for side in (train, held_out)]
    assert (sides[0] & sides[1], len(sides[0]), len(sides[1])) == (set(), 5, 2)
    assert len(train) + len(held_out) == 28
    with pytest.raises(StageError, match="4 different prompts are too few"):
        split(dataset.select([0, 1, 2, 3]), Evaluation(), 1)


def test_the_best_checkpoint_is_the_training_s_and_patience_ends_it_early(job: Make, tmp_path: Path) -> None:
    done = job([])
    evaluation = {"held_out": 0.2, "every": 2, "patience": 1, "keep_best": 2}
    result = sft(tmp_path, evaluation=evaluation, max_steps=30, learning_rate=1.0, scheduler="constant").train(done)
    evaluations = lines(done.output / "evaluations.jsonl")
    losses = [line["loss"] for line in evaluations]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 2  # one evaluation that wasn't better
    assert result.metrics["steps"] == evaluations[-1]["step"] < 30
    assert (result.metrics["best_step"], result.metrics["best_held_out_loss"]) == (
        evaluations[best]["step"],
        losses[best],
    )
    kept = sorted(sorted(evaluations, key=lambda line: line["loss"])[:2], key=lambda line: line["step"])
    folders = sorted((done.output / "best").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert [path.name for path in folders] == [f"step-{line['step']}" for line in kept]
    weights = [load_file(folder / "model.safetensors") for folder in (result.checkpoint, done.output / "best" /
               f"step-{result.metrics['best_step']}")]  # fmt: skip
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    assert result.metrics["held_out_rows"] == 2


def test_pairs_are_evaluated_with_their_stored_reference(job: Make, row: Callable[..., Any]) -> None:
    done = job([row(i) for i in range(8)])
    evaluation = {"held_out": 0.3, "every": 1}
    settings = {**TINY, "global_batch": 2, "max_steps": 2, "evaluation": evaluation}
    result = DPO(DPOSettings.model_validate(settings)).train(done)
    found = lines(done.output / "evaluations.jsonl")
    assert [line["step"] for line in found] == [1, 2]
    assert 0.5 < found[0]["loss"] < 2
    assert "rewards/accuracies" in found[0]
    assert result.metrics["held_out_rows"] == 2


def test_the_longest_of_chosen_rows_is_found() -> None:
    dataset = Dataset.from_dict({"input_ids": [[1], [2] * 9, [3] * 5, [4] * 7], "spans": [[0.0, 1.0]] * 4})
    assert longest_row(dataset) == (dataset[1], 9)
    assert longest_row(dataset.select([3, 0, 2])) == (dataset[3], 7)
