"""Runs that are killed while a judge decides: no question is paid for twice, whatever it was packed with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import lrf
from decision_server import DecisionServer

RATED = ("helpfulness", "logicality", "completeness")
IN_FLIGHT = 4


def pipeline(folder: Path, server: DecisionServer, samples: int = 12) -> Path:
    rows = [
        {
            "id": f"s{n}",
            "context": " ".join(f"Contract {n} has clause {i}, and clause {i} has a fee." for i in range(60)),
            "query": f"What of contract {n}?",
            "candidates": [
                {"id": f"c{i}", "text": " ".join(f"Clause {k} of {n} has fee {i}." for k in range(8))} for i in range(4)
            ],
        }
        for n in range(samples)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = {"type": "systemone", "base_url": server.base_url, "model": "m", "max_concurrency": IN_FLIGHT}
    values: dict[str, Any] = {
        "name": "run",
        "data": {"type": "jsonl", "path": "data.jsonl"},
        "judges": {"main": {**judge, "max_questions": 20}},
        "dimensions": [
            *({"type": name, "read": "document"} for name in RATED),
            {"type": "faithfulness", "read": "document", "statements": "sentences"},
        ],
        "budget": {"calls": 200},
        "max_unscored": 1.0,
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def command(file: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(runs)]


def killed_after(requests: int, file: Path, runs: Path, server: DecisionServer) -> None:
    """One life of the command, ended once the server has had so many requests in all."""
    with subprocess.Popen(command(file, runs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until = time.monotonic() + 60
        while server.books.requests < requests and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_run_killed_while_it_decides_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    with DecisionServer(delay_s=0.1) as server:
        twentieth = {0: "refusal", 1: "missing"}
        server.question_fault = lambda text, name: twentieth.get(int(name[1:]) % 20)
        file = pipeline(tmp_path, server)
        undisturbed = lrf.run(str(file), runs=tmp_path / "undisturbed", last="score")
        assert undisturbed.exit_code == 0
        asked, requests = set(server.books.asked), server.books.requests
        assert max(server.books.asked.values()) == 1
        server.books.asked.clear()
        server.books.requests = 0
        for moment in (3, requests // 3, 2 * requests // 3):
            killed_after(moment, file, tmp_path / "runs", server)
        ended = lrf.run(str(file), runs=tmp_path / "runs", last="score")
    assert ended.exit_code == 0
    for name in ("rewards.jsonl", "judgements.jsonl"):
        assert (ended.run_dir / name).read_bytes() == (undisturbed.run_dir / name).read_bytes()
    assert set(server.books.asked) == asked
    again = sum(times - 1 for times in server.books.asked.values())
    assert again <= 3 * 2 * IN_FLIGHT * 20  # what was in flight at the kills: sent, and not committed
    assert again < len(asked) / 2
