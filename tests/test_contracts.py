"""The pipelines that other people's scripts rely on run as they stand, but for the server's address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from project import sample_row

PIPELINES = Path(__file__).with_name("pipelines")
ADDRESS = "http://127.0.0.1:8900/v1"


def placed(name: str, folder: Path, server: JudgeServer) -> Path:
    """The pipeline in a folder beside the data, with the address of a server that is there."""
    text = (PIPELINES / name).read_text(encoding="utf-8")
    assert text.count(ADDRESS) == 2
    (folder / "pipelines").mkdir()
    file = folder / "pipelines" / name
    file.write_text(text.replace(ADDRESS, server.base_url), encoding="utf-8")
    return file


def lrf(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lrf", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def longreward_example(tmp_path: Path) -> Path:
    data = os.environ.get("LRF_TEST_DATA")
    if not data or not Path(data, "longreward_example").is_dir():
        pytest.skip("LRF_TEST_DATA names no folder with longreward_example")
    (tmp_path / "data").symlink_to(data)
    return tmp_path / "data" / "longreward_example"


def test_score_http_scores_the_example(tmp_path: Path, judge_server: JudgeServer, longreward_example: Path) -> None:
    file = placed("score-http.yaml", tmp_path, judge_server)
    plan = json.loads(lrf("plan", file, "--json"))
    assert judge_server.books.calls == 0
    assert plan["samples"] == 1
    assert plan["candidates"] == 10
    assert set(plan["dimensions"]) == {"helpfulness", "logicality", "faithfulness", "completeness"}

    lrf("run", file, "--runs", tmp_path / "runs")
    run = tmp_path / "runs" / "score-http"
    rewards = lines(run / "rewards.jsonl")
    answers = lines(longreward_example / "sampled_responses.jsonl")
    assert len(rewards) == len(answers) == 10
    assert [r["unscored"] for r in rewards] == [None] * 10
    assert all(0 <= r["reward"] <= 10 for r in rewards)
    assert len(lines(run / "pairs.jsonl")) + len(lines(run / "left_out.jsonl")) == 1

    # The document is 8k tokens: its notes are taken once for all candidates, and each statement is judged once.
    chunks = 3
    statements = {
        s["text"] for row in lines(run / "judgements.jsonl") for s in row["judgements"]["faithfulness"]["statements"]
    }
    assert judge_server.books.repeated == 0
    assert judge_server.books.calls <= chunks + 10 * 4 + len(statements)
    assert max(judge_server.books.embedded.values()) == 1


def test_score_jsonl_scores_the_samples_that_the_environment_names(tmp_path: Path, judge_server: JudgeServer) -> None:
    file = placed("score-jsonl.yaml", tmp_path, judge_server)
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(sample_row(i)) + "\n" for i in range(3)))
    lrf("run", file, "--runs", tmp_path / "runs", LRF_SAMPLES=str(samples))
    run = tmp_path / "runs" / "score-jsonl"
    assert [(r["sample_id"], r["candidate_id"]) for r in lines(run / "rewards.jsonl")] == [
        (f"sample-{s}", f"c{c}") for s in range(3) for c in range(5)
    ]
    assert "${LRF_SAMPLES}" in (run / "pipeline.yaml").read_text()


def test_score_jsonl_without_its_variable_says_so_before_any_cost(tmp_path: Path, judge_server: JudgeServer) -> None:
    file = placed("score-jsonl.yaml", tmp_path, judge_server)
    environment = {name: value for name, value in os.environ.items() if name != "LRF_SAMPLES"}
    done = subprocess.run(
        [sys.executable, "-m", "lrf", "run", str(file)], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "LRF_SAMPLES" in done.stderr
    assert f"{file}:" in done.stderr
    assert judge_server.books.calls == 0
