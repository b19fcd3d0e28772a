"""Several processes write the answers, ask for the rewards and make the policy that one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 2, "heads": 2, "vocab": 320},
    "group": 4,
    "global_batch": 2,
    "answer_tokens": 6,
    "learning_rate": 1e-3,
    "max_steps": 4,
    "beta": 0.05,
    "evaluation": {"held_out": 0.4, "every": 2},
}

WORKER = """
import json, os, sys
from pathlib import Path
from lrf.protocols import TrainingJob
from lrf.types import Reward, Unscored
from lrf_grpo.settings import GRPOSettings
from lrf_grpo.trainer import GRPO
prompts, output, settings = sys.argv[1:]
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
class Judge:
    dimensions = ("d",)
    def score(self, answers):
        with open(Path(output).with_suffix(".asked"), "a") as file:
            file.write(json.dumps([[one.place, list(one.texts)] for one in answers]) + "\\n")
        return [tuple(self.one(text) for text in one.texts) for one in answers]
    def one(self, text):
        value = float(sum(map(ord, text)) % 11)
        return Reward("s", "c", value or None, {"d": value or None}, None if value else Unscored("d", "x"))
    def costs(self):
        return {"usage": {}}
rewards = Judge() if rank == 0 else None
given = {"rank": rank, "world": world, "prompts": Path(prompts), "rewards": rewards}
job = TrainingJob(Path("none"), Path(output), None, 7, "", **given)
GRPO(GRPOSettings.model_validate(json.loads(settings))).train(job)
"""


class Trainings:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "worker.py").write_text(WORKER)
        rows = [{"sample_id": str(n), "prompt": [{"role": "user", "content": "abc" * (7 + n)}]} for n in range(7)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def train(self, name: str, processes: int, **settings: Any) -> tuple[list[float], str]:
        """The steps' losses, and all that was asked for."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), str(self.folder / "worker.py")]
        command += [str(self.folder / "prompts.jsonl"), str(self.folder / name), json.dumps(TINY | settings)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
        log = (self.folder / name / "training_log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in log], (self.folder / f"{name}.asked").read_text()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def alone(trainings: Trainings) -> tuple[list[float], str]:
    return trainings.train("alone", 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("settings", [{}, {"zero": 3}], ids=["DDP", "ZeRO-3"])
def test_two_processes_have_the_losses_and_the_answers_of_one(
    trainings: Trainings, alone: tuple[list[float], str], settings: dict[str, Any]
) -> None:
    losses, asked = alone
    together, asked_together = trainings.train(f"together-{settings.get('zero', 0)}", 2, **settings)
    assert together == pytest.approx(losses, abs=1e-5)
    assert asked_together == asked
