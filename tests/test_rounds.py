"""Going round: policy → candidates → rewards → pairs → policy, and again from the new policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from project import Project, sample_row
from tiny_llama import write_tiny_llama


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_policy_writes_learns_from_rewards_and_writes_again(project: Project, judge_server: JudgeServer) -> None:
    dpo = {"type": "dpo", "global_batch": 2, "max_steps": 2, "learning_rate": 0.01}
    first = project.pipeline(name="round0", train={**dpo, "init": {"hidden": 32, "layers": 1, "vocab": 400}})
    summary = lrf.run(first, runs=project.runs)
    assert summary.status == "finished", summary.message

    rows = [
        {**sample_row(i), "context": f"Contract {i} names a fee of {i} euros.", "candidates": None} for i in range(4)
    ]
    project.write_data(rows)
    sampler = {"type": "transformers", "n": 6, "max_tokens": 12, "device": "cpu", "threads": 1}
    again = project.pipeline(name="round${ROUND}", policy={"model": "${POLICY}"}, sample=sampler, train=dpo)
    file = project.write(again)
    for number, last in ((1, "train"), (2, "pairs")):
        policy = f"./runs/round{number - 1}/policy/dpo/checkpoint"
        done = run(file, last, ROUND=str(number), POLICY=policy)
        assert done.returncode == 0, done.stdout + done.stderr
        found = lines(project.runs / f"round{number}" / "candidates.jsonl")
        candidates = [c for row in found for c in row["candidates"]]
        assert {c["source"] for c in candidates} == {str(project.folder / policy)}
        assert len({c["metadata"]["seed"] for c in candidates}) == len(candidates) >= 20
        assert (project.runs / f"round{number}" / "sample.stderr.log").exists()  # it had a process of its own
        chosen = {p["chosen"][0]["content"] for p in lines(project.runs / f"round{number}" / "pairs.jsonl")}
        assert chosen
        assert chosen <= {c["text"] for c in candidates}
    weights = [(project.runs / f"round{i}/policy/dpo/checkpoint/model.safetensors").read_bytes() for i in range(2)]
    assert weights[0] != weights[1]

    calls = judge_server.books.calls
    done = run(file, "pairs", ROUND="2", POLICY="./runs/round1/policy/dpo/checkpoint")
    assert (done.returncode, judge_server.books.calls) == (0, calls)


@pytest.mark.slow
def test_between_stages_the_memory_of_the_gpu_is_back_where_it_was(project: Project) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    model = write_tiny_llama(project.folder / "policy")
    project.write_data([{**sample_row(0), "context": "A short one.", "candidates": None}])
    sampler = {"type": "transformers", "n": 4, "max_tokens": 64, "device": "cuda"}
    pipeline = project.pipeline(policy={"model": str(model)}, sample=sampler)
    torch.zeros(1, device="cuda")
    before, _ = torch.cuda.mem_get_info()
    assert lrf.run(pipeline, runs=project.runs, last="sample").status == "finished"
    after, _ = torch.cuda.mem_get_info()
    assert abs(before - after) < 64 << 20


def run(file: Path, last: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lrf", "run", str(file), "--until", last]
    return subprocess.run(command, cwd=file.parent, env={**os.environ, **environ}, capture_output=True, text=True)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
