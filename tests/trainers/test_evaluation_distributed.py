"""Two processes evaluate as one does, and stop at a signal that one of them gets, whatever they train. Slow."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lrf.protocols import TrainingJob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORKER = """
import json, os, pkgutil, signal, sys
from pathlib import Path
from lrf.errors import RunInterruptedError
from lrf.protocols import TrainingJob
from lrf.types import Reward
trainer, settings_type, folder, name, settings, stop_at = sys.argv[1:]
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
class Judge:
    dimensions = ("d",)
    def score(self, answers):
        return [tuple(self.one(float(sum(map(ord, text)) % 11)) for text in one.texts) for one in answers]
    def one(self, value):
        return Reward("s", "c", value, {"d": value}, None)
    def costs(self):
        return {"usage": {}}
class Stop:  # a signal to the last process after a step
    def on_step(self, args, state, control, **_):
        if state.global_step == int(stop_at) and rank == world - 1:
            os.kill(os.getpid(), signal.SIGTERM)
folder = Path(folder)
files = {kind: folder / f"{kind}.jsonl" for kind in ("pairs", "scored", "prompts")}
job = TrainingJob(output=folder / name, model=None, seed=7, prompt_template_sha256="ab" * 32, rank=rank, world=world,
                  rewards=None if rank else Judge(), **files)
from lrf_training import progress
begin = progress.ProgressCallback.on_step_begin
def begin_and_stop(self, args, state, control, **_):
    begin(self, args, state, control)
    Stop().on_step(args, state, control)
progress.ProgressCallback.on_step_begin = begin_and_stop
settings = pkgutil.resolve_name(settings_type).model_validate(json.loads(settings))
try:
    pkgutil.resolve_name(trainer)(settings).train(job)
except RunInterruptedError as error:
    (folder / f"{name}.stopped-{rank}").write_text(str(error))
"""
TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 2, "heads": 2, "vocab": 320},
    **{"global_batch": 2, "max_steps": 4, "learning_rate": 1e-3},
}
EVALUATION = {"evaluation": {"held_out": 0.4, "every": 2, "keep_best": 1}}
SHARED = {"zero": 3, "sequence_parallel": 2}
CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sft": ("SFT", EVALUATION, SHARED),
    "packed sft": ("SFT", {**EVALUATION, "packing": True, "max_tokens": 96}, SHARED),
    "dpo": ("DPO", EVALUATION, SHARED),
    "dpo against adapters switched off": (
        "DPO",
        {**EVALUATION, "lora": {"merge": True}, "reference": "adapter_off"},
        {},
    ),
    "reward": ("RewardTrainer", {**EVALUATION, "held_out": 0.2}, {"zero": 3}),
    "reward of preferences": ("RewardTrainer", {**EVALUATION, "held_out": 0.2, "objective": "preferences"}, {}),
    "grpo": ("GRPO", {"group": 2, "answer_tokens": 6}, {}),
}


class Trainings:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "worker.py").write_text(WORKER)
        for kind in ("pairs", "scored", "prompts", "rows"):
            rows = [self._row(n, kind) for n in range(17)]
            (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    @staticmethod
    def _row(n: int, kind: str) -> dict[str, Any]:
        texts = {
            "prompt": "abc" * (7 + n),
            "chosen": f"bad {n}" * (3 + n % 3),
            "rejected": f"cab {n * n}" * (5 - n % 4),
        }
        chats = {k: [{"role": "user" if k == "prompt" else "assistant", "content": v}] for k, v in texts.items()}
        if kind == "rows":
            return {"prompt": texts["prompt"], "completion": texts["chosen"]}
        if kind == "scored":
            chats = {"prompt": chats["prompt"], "answer": chats["chosen"], "ratings": {"d": float(n % 11)}}
        return {"sample_id": f"s{n}", **chats}

    def _chosen(self, trainer: str, settings: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Where the trainer and its settings are, and the settings."""
        room = {"SFT": "sft", "DPO": "dpo", "GRPO": "grpo", "RewardTrainer": "reward"}[trainer]
        made = TINY | settings | ({"sources": [{"path": str(self.folder / "rows.jsonl")}]} if room == "sft" else {})
        settings_type = f"{trainer.removesuffix('Trainer')}Settings"
        return f"lrf_{room}.trainer:{trainer}", f"lrf_{room}.settings:{settings_type}", made

    def train_here(self, name: str, trainer: str, settings: dict[str, Any]) -> Path:
        """By one process, this one, in one thread as each of several has: sums of more differ in a bit."""
        *types, made = self._chosen(trainer, settings)
        trainer_type, settings_type = map(pkgutil.resolve_name, types)
        files = {kind: self.folder / f"{kind}.jsonl" for kind in ("pairs", "scored", "prompts")}
        job = TrainingJob(output=self.folder / name, model=None, seed=7, prompt_template_sha256="ab" * 32, **files)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            trainer_type(settings_type.model_validate(made)).train(job)
        finally:
            torch.set_num_threads(threads)
        return self.folder / name

    def train(self, name: str, trainer: str, settings: dict[str, Any], stop_at: int = -1) -> Path:
        """By two processes."""
        *types, made = self._chosen(trainer, settings)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [sys.executable, *launcher, str(self.folder / "worker.py"), *types]
        command += [str(self.folder), name, json.dumps(made), str(stop_at)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr[-9000:]
        return self.folder / name


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("kind", CHANGES)
def test_two_processes_have_the_held_out_losses_of_one_and_stop_at_a_signal_to_one(kind: str, tmp_path: Path) -> None:
    trainer, settings, shared = CHANGES[kind]
    trainings = Trainings(tmp_path)
    whole = trainings.train("whole", trainer, settings | shared)
    if "evaluation" in settings:
        alone = trainings.train_here("alone", trainer, settings)
        found, expected = (lines(output / "evaluations.jsonl") for output in (whole, alone))
        assert [line["step"] for line in found] == [2, 4]
        for line, other in zip(found, expected, strict=True):
            assert line == pytest.approx(other, abs=1e-5)
    if kind not in ("sft", "grpo"):
        return  # what listens to signals and saves is one for all; only grpo waits for answers besides
    trainings.train("stopped", trainer, settings | shared, stop_at=1)
    stopped = [(tmp_path / f"stopped.stopped-{rank}").read_text() for rank in (0, 1)]
    assert all(text.startswith("the training was stopped after step 2 of 4; its state is saved") for text in stopped)
    resumed = trainings.train("stopped", trainer, settings | shared)
    files = [output / "checkpoint" / "model.safetensors" for output in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
