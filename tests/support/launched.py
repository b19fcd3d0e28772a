"""Runs of ``lrf run`` with real launchers, for the trainers' tests of several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from waiting import until

ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Launched:
    """A folder of pipelines and their runs. ``train`` is what all of their ``train:`` blocks share."""

    def __init__(self, folder: Path, train: dict[str, Any], **pipeline: Any) -> None:
        self.folder, self.train, self.pipeline = folder, train, pipeline

    def output(self, name: str) -> Path:
        return self.folder / "runs" / name / "policy" / self.train["type"]

    def start(self, name: str, launcher: dict[str, Any] | None = None, **train: Any) -> subprocess.Popen[str]:
        """``lrf run --from train`` of a pipeline of this name, going."""
        values = {"name": name, "train": {**self.train, **train}, "launcher": launcher, **self.pipeline}
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
        command = [
            sys.executable,
            "-m",
            "lrf",
            "run",
            str(file),
            "--from",
            "train",
            "--runs",
            str(self.folder / "runs"),
        ]
        return subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, name: str, launcher: dict[str, Any] | None = None, **train: Any) -> tuple[int, str]:
        """The exit code, and all that was said."""
        process = self.start(name, launcher, **train)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def log(self, name: str) -> list[dict[str, Any]]:
        """What was logged of each step."""
        lines = (self.output(name) / "training_log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def losses(self, name: str) -> list[float]:
        return [line["loss"] for line in self.log(name)]

    def told(self, name: str) -> list[dict[str, Any]]:
        """The progress that rank 0 told in the last sitting."""
        channel = self.folder / "runs" / name / "launch" / "ranks" / "0.jsonl"
        messages = [json.loads(line) for line in channel.read_text().splitlines()]
        return [message["progress"] for message in messages if "progress" in message]

    def until_saved(self, name: str, step: int) -> None:
        """Return when the training's state of this step is whole."""
        until(lambda: (self.output(name) / "training" / f"checkpoint-{step}" / "complete.json").exists())

    def ranks(self, name: str) -> list[int]:
        """The processes that train, by rank: found by their command line, which names the run's folder."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                variables = dict(v.partition(b"=")[::2] for v in (entry / "environ").read_bytes().split(b"\0"))
            except OSError:
                continue
            worker = b"lrf.stages.train.worker" in command and os.fsencode(self.folder / "runs" / name) in command
            if worker and b"RANK" in variables and b"torch.distributed.run" not in command:
                found[int(variables[b"RANK"])] = int(entry.name)
        return [found[rank] for rank in sorted(found)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def with_children(pid: int) -> list[int]:
    """A process, and all that it started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [pid, *(one for child in children for one in with_children(child))]
