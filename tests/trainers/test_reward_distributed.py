"""A reward model made by two processes is the one that one process makes. Slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrf.protocols import TrainingJob
from lrf_reward.settings import RewardSettings
from lrf_reward.trainer import RewardTrainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 2, "heads": 2, "vocab": 300},
    **{"global_batch": 4, "max_steps": 4, "learning_rate": 1e-3},
}
WORKER = """
import json, sys
from pathlib import Path
from lrf.protocols import TrainingJob
from lrf_reward.settings import RewardSettings
from lrf_reward.trainer import RewardTrainer
scored, output, settings = sys.argv[1:]
job = TrainingJob(Path(scored), Path(output), None, 7, "", scored=Path(scored))
RewardTrainer(RewardSettings.model_validate(json.loads(settings))).train(job)
"""


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "training_log.jsonl").read_text().splitlines()]


def test_two_processes_with_and_without_zero_have_the_losses_and_scale_of_one(tmp_path: Path) -> None:
    rows = [
        {
            "sample_id": f"s{number}",
            "prompt": [{"role": "user", "content": "Which?" * (1 + number % 3)}],
            "answer": [{"role": "assistant", "content": "abc " * (1 + number % 5)}],
            "ratings": {"helpfulness": float(number % 11), "logicality": None if number % 3 == 0 else 5.0},
        }
        for number in range(20)
    ]
    scored, worker = tmp_path / "scored.jsonl", tmp_path / "worker.py"
    scored.write_text("".join(json.dumps(row) + "\n" for row in rows))
    worker.write_text(WORKER)
    RewardTrainer(RewardSettings.model_validate(TINY)).train(
        TrainingJob(scored, tmp_path / "alone", None, 7, "", scored=scored)
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(worker)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for zero in (0, 2):  # test_evaluation_distributed has ZeRO-3
        output = tmp_path / f"zero-{zero}"
        arguments = [str(scored), str(output), json.dumps(TINY | {"zero": zero})]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert losses(output) == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
        config = json.loads((output / "checkpoint" / "config.json").read_text())
        assert config["lrf_reward"]["ten_at"] == 1.0
