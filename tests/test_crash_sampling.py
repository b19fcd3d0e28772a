"""Sampling that is killed: what was paid for is in the journal, and the same command ends as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_server import PolicyServer
from project import Project, sample_row

IN_FLIGHT = 8 + 8
"""Sent and not yet committed: a call in each slot, and as many replies again that are being written."""


@pytest.fixture
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    server.start()
    yield server
    server.stop()


def command(file: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(runs), "--until", "sample"]


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_interrupted_sampling_resumes_and_pays_again_only_for_calls_in_flight(
    project: Project, policy: PolicyServer, signal_: signal.Signals
) -> None:
    project.write_data([{**sample_row(i), "candidates": None} for i in range(30)])
    sampler = {"type": "openai", "base_url": policy.base_url, "model": "policy", "n": 8, "seed": True}
    file = project.write(project.pipeline(sample={**sampler, "max_concurrency": 8}))
    whole = project.folder / "undisturbed"
    subprocess.run(command(file, whole), check=True, capture_output=True, timeout=120)
    calls = len(policy.bodies)
    assert calls == 240

    process = subprocess.Popen(command(file, project.runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert policy.wait_for_calls(calls + 60)
    process.send_signal(signal_)
    process.communicate(timeout=60)
    assert process.returncode == (130 if signal_ == signal.SIGINT else -signal_)
    assert not (project.run_dir / "candidates.jsonl").exists()
    subprocess.run(command(file, project.runs), check=True, capture_output=True, timeout=120)
    again = len(policy.bodies) - 2 * calls
    assert again <= (0 if signal_ == signal.SIGINT else IN_FLIGHT)
    same = [folder / "run" / "candidates.jsonl" for folder in (whole, project.runs)]
    assert same[0].read_bytes() == same[1].read_bytes()
