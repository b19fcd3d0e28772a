"""Whether the longest pair fits is known before the first step, and looking leaves no trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrf_dpo.batches import ListCollator
from lrf_dpo.rows import token_row
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.prefix_sharing import share_prompts
from lrf_training.preflight import copies

TINY: dict[str, Any] = {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "global_batch": 2}


def test_looking_leaves_no_trace(job, row) -> None:
    rows = [row(n) for n in range(4)]
    found = []
    for preflight in (True, False):
        settings = TINY | {"learning_rate": 1e-3, "preflight": preflight, "lora": {"dropout": 0.3, "merge": True}}
        found.append(DPO(DPOSettings.model_validate(settings)).train(job(rows, output=f"{preflight}")))
    weights = [(result.checkpoint / "model.safetensors").read_bytes() for result in found]
    assert weights[0] == weights[1]
    assert "preflight_tokens" not in found[1].metrics


def test_it_goes_through_the_longest_pair_and_tells_the_peak(job, row) -> None:
    reports: list[Any] = []
    rows = [row(0), row(1, words=(200, 90, 80)), row(2)]
    metrics = DPO(DPOSettings.model_validate(TINY | {"max_steps": 1})).train(job(rows, report=reports.append)).metrics
    assert metrics["preflight_tokens"] > metrics["longest"] > 500  # both answers are in it
    assert 0.05 < metrics["peak_memory_gib"] < 24
    phases = [(r["phase"], r.get("tokens")) for r in reports if r.get("phase") == "preflight"]
    assert phases[0] == ("preflight", metrics["preflight_tokens"])


def test_a_micro_batch_of_the_longest_pair_is_forwarded_whole() -> None:
    columns, numbers = token_row([1, 2, 3], [[4, 5], [6]])
    batch = ListCollator(share_prompts, 0)(copies(columns | numbers, 3))
    assert batch["layout"].groups == ((3, (2, 1)),) * 3


@pytest.mark.slow
def test_looking_adds_nothing_to_the_correlation_with_length(job, row) -> None:
    rows, found = [row(n) for n in range(4)], []
    for preflight in (True, False):
        settings = TINY | {"preflight": preflight, "epochs": 16.5, "global_batch": 1, "learning_rate": 1e-3}
        result = DPO(DPOSettings.model_validate(settings)).train(job(rows, output=f"{preflight}"))
        lines = [json.loads(line) for line in (result.checkpoint.parent / "training_log.jsonl").open()]
        found.append([line.get("length_correlation") for line in lines])
    assert found[0] == found[1]
    assert found[0][-1] is not None


CODE = """
import json, resource, sys
from pathlib import Path
from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
def limit(progress):
    if progress.get("phase") == "preflight":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (32 << 20), -1))
folder = Path(sys.argv[1])
settings = DPOSettings.model_validate(json.loads(sys.argv[2]))
job = TrainingJob(folder / "pairs.jsonl", folder / "out", None, 7, "ab" * 32, report=limit)
try:
    DPO(settings).train(job)
except StageError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's limit of address space")
def test_a_pair_that_does_not_fit_stops_before_the_first_step_with_what_helps(job, row, tmp_path: Path) -> None:
    made = job([row(0, words=(2000, 300, 300))])
    settings = TINY | {"global_batch": 1, "init": {"hidden": 128, "layers": 2, "heads": 4, "vocab": 320}}
    settings |= {"gradient_checkpointing": False}
    command = [sys.executable, "-c", CODE, str(tmp_path), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1"})
    assert "doesn't fit into memory" in done.stdout, done.stderr
    assert "What helps: gradient_checkpointing: true, lora" in done.stdout
    assert not (made.output / "checkpoint").exists()
