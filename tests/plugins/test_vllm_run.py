"""A run whose candidates and rewards are made by vLLM in an environment of its own, while lrf runs in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny_llama import write_tiny_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "LRF_VLLM_PYTHON" not in os.environ, reason="LRF_VLLM_PYTHON names no interpreter with vLLM and lrf"
    ),
]

ENGINE = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 16}
MARK = "LRF_TEST_MARK"


def write_pipeline(folder: Path) -> Path:
    python = os.environ["LRF_VLLM_PYTHON"]
    rows = [{"id": f"s{n}", "context": f"The hut was closed in {1990 + n}.", "query": "When?"} for n in range(3)]
    folder.joinpath("data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pipeline: dict[str, Any] = {
        "name": "run",
        "data": {"type": "jsonl", "path": "data.jsonl"},
        "policy": {"model": str(write_tiny_llama(folder / "llama", 32768))},
        "sample": {"type": "vllm_engine", "n": 5, "max_tokens": 24, **ENGINE},
        "judges": {"main": {"type": "vllm_engine", "model": str(folder / "llama"), "analysis": False, **ENGINE}},
        "dimensions": ["helpfulness", "logicality"],
        "pairs": "best_worst",
        "python": {"sample": python, "score": python},
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(pipeline))
    return file


def processes(mark: str) -> dict[int, str]:
    """Those that descend from a run with this mark, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], bool], what: Callable[[], str], seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what()
        time.sleep(0.2)


def test_a_killed_run_leaves_no_engine_behind_and_the_next_one_ends_it(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "lrf", "run", str(write_pipeline(tmp_path)), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, MARK: mark, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    run_dir = tmp_path / "runs" / "run"

    with tmp_path.joinpath("killed.log").open("wb") as log:
        killed = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def scoring() -> bool:
        assert killed.poll() is None, tmp_path.joinpath("killed.log").read_text()
        score = [
            pid for pid, cmd in processes(mark).items() if "lrf.stages.child_process" in cmd and ":ScoreStage " in cmd
        ]
        return bool(score) and any("EngineCore" in cmd for cmd in processes(mark).values())

    wait_until(scoring, lambda: "the engine that scores never came up")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_until(lambda: not processes(mark), lambda: f"processes outlive the run: {processes(mark)}")
    candidates = run_dir.joinpath("candidates.jsonl").read_bytes()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run_dir.joinpath("candidates.jsonl").read_bytes() == candidates
    assert not processes(mark)
    rewards = [json.loads(line) for line in run_dir.joinpath("rewards.jsonl").read_text().splitlines()]
    assert len(rewards) == 15
    assert all(0 < rating < 10 for row in rewards for rating in row["ratings"].values())
    judged = [json.loads(line) for line in run_dir.joinpath("judgements.jsonl").read_text().splitlines()]
    assert {j["reply_mode"] for row in judged for j in row["judgements"].values()} == {"logprobs"}
    figures = json.loads(run_dir.joinpath("summary.json").read_text())["stages"]["score"]["judges"]["main"]
    assert figures["prefix_cache_hit_rate"] > 0.5  # instructions and examples are the same for all
    assert run_dir.joinpath("pairs.jsonl").read_text()
