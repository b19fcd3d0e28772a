"""Launching a training: a plan of all that will run, written for review, and then its processes.

Each process is ``lrf.stages.worker``. It writes to files of its own in ``launch/ranks``: what it prints to ``N.log``,
progress and outcome as lines of JSON to ``N.jsonl``. Files work alike under every launcher, on one machine or many.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.build import launcher_of
from lrf.errors import ConfigError, LrfError, StageError
from lrf.protocols import LaunchJob, LaunchPlan
from lrf.settings import Shares, TrainerSettings
from lrf.stages.run_dir import RunDir
from lrf.store.filesystem import read_json, replacing, write_json
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import Pipeline

WATCHED = "LRF_STDIN_ENDS_WITH_THE_RUN"
"""Set for processes of this machine: their standard input is the stage's, and they end when it does."""

PATIENCE_S = 20.0
LAST_LINES, LAST_BYTES = 20, 1 << 14
_POLL_S = 0.1
_ROOT_CAUSE = re.compile(r"rank\s*:\s*(\d+) \(local_rank[^)]*\)\s*exitcode\s*:\s*(-?\d+)")  # torchrun's words

Report = Callable[[Mapping[str, JSON]], None]


# --- the plan ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """The launcher's plan, what plan.json says of it, and texts of the other files by name."""

    plan: LaunchPlan
    about: Mapping[str, JSON]
    files: Mapping[str, str]


def plan_launch(pipeline: Pipeline, run: RunDir) -> Launch:
    """All that will run. Imports no torch, starts and writes nothing.

    Raises :class:`lrf.errors.ConfigError` when the processes can't share the training.
    """
    if pipeline.train is None:
        raise ConfigError("the pipeline has no `train:` block, so there is nothing to launch")
    python = pipeline.python.get("train", sys.executable)
    arguments = (str(run.path), str(pipeline.folder))
    job = LaunchJob(pipeline.name, python, "lrf.stages.worker", arguments, run.launch)
    plan = launcher_of(pipeline).plan(job) if pipeline.launcher else LaunchPlan()
    shares = _shares(pipeline, plan.world)
    files = {**plan.files}
    if shares.deepspeed is not None:
        files["ds_config.json"] = json.dumps(shares.deepspeed, indent=2) + "\n"
    if plan.argv:
        variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in plan.env.items())
        files["launch.sh"] = f"#!/usr/bin/env bash\nset -euo pipefail\n{variables}exec {shlex.join(plan.argv)}\n"
    return Launch(plan, _about(pipeline, plan, shares, sorted(files)), files)


def prepare_launch(pipeline: Pipeline, run: RunDir) -> Launch:
    """:func:`plan_launch`, and write it into the run's ``launch`` folder."""
    made, folder = plan_launch(pipeline, run), run.launch
    folder.mkdir(parents=True, exist_ok=True)
    for old in (read_json(folder / "plan.json") or {}).get("files", ()):
        (folder / Path(old).name).unlink(missing_ok=True)
    for name, text in made.files.items():
        with replacing(folder / name) as f:
            f.write(text)
    write_json(folder / "plan.json", made.about)
    return made


def _shares(pipeline: Pipeline, world: int) -> Shares:
    assert pipeline.train is not None
    settings = pipeline.train.settings
    try:
        if isinstance(settings, TrainerSettings):
            return settings.shares(world)
        if world > 1:
            raise ConfigError("this trainer runs in one process")
    except ConfigError as e:
        raise ConfigError(f"train ({pipeline.train.type}) with {world} processes: {e}") from None
    return Shares()


def _about(pipeline: Pipeline, plan: LaunchPlan, shares: Shares, files: list[str]) -> dict[str, JSON]:
    assert pipeline.train is not None
    settings = pipeline.train.settings
    return {
        "run": pipeline.name,
        "launcher": pipeline.launcher.type if pipeline.launcher else "local",
        "trainer": pipeline.train.type,
        "processes": plan.world,
        "machines": plan.world // plan.per_node,
        "processes_per_machine": plan.per_node,
        "sequence_parallel": shares.sequence_parallel,
        "data_parallel": plan.world // shares.sequence_parallel,
        "global_batch": getattr(settings, "global_batch", None),
        "micro_batch": getattr(settings, "micro_batch", None),
        "accumulation": shares.accumulation,
        "deepspeed": "ds_config.json" if shares.deepspeed is not None else None,
        "argv": list(plan.argv),
        "env": dict(plan.env),
        "ranks": [
            {"rank": r, "machine": r // plan.per_node, "local_rank": r % plan.per_node, "log": f"ranks/{r}.log"}
            for r in range(plan.world)
        ]
        if plan.argv
        else [],
        "files": files,
        "note": plan.note,
    }


# --- the processes ----------------------------------------------------------------------------------------------


def launch(plan: LaunchPlan, folder: Path, report: Report) -> dict[str, JSON]:
    """Start the plan's command, pass on rank 0's progress, and return its result.

    Raises what a rank raised, or :class:`lrf.errors.StageError` with the last lines of those that died. However this
    ends, even by SIGKILL, the processes of this machine end with it.
    """
    ranks = folder / "ranks"
    ranks.mkdir(exist_ok=True)
    for old in ranks.glob("*.jsonl"):
        old.unlink()
    begin = {log: log.stat().st_size for log in ranks.glob("*.log")}
    printed = folder / "launcher.log"
    with printed.open("wb") as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - the plan's own command
                plan.argv,
                env={**os.environ, **plan.env, WATCHED: "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as e:
            raise StageError(f"{plan.argv[0]} can't be started: {e}") from e
    try:
        code = _follow(process, ranks / "0.jsonl", report)
    finally:
        _end(process)
    told = {int(p.stem): [json.loads(line) for line in _whole_lines(p)] for p in ranks.glob("*.jsonl")}
    for rank in sorted(told):
        for message in told[rank]:
            if "error" in message:
                error: LrfError = StageError(message["error"])
                error.exit_code = message["exit_code"]
                raise error
    result: Any = next((m["result"] for m in told.get(0, ()) if "result" in m), None)
    if result is not None:
        return dict(result)
    raise StageError(_what_died(code, plan, printed, ranks, begin))


def _follow(process: subprocess.Popen[bytes], channel: Path, report: Report) -> int:
    """Pass on progress until the process has ended; its exit code."""
    read, rest = 0, b""
    while True:
        code = process.poll()
        if channel.exists():
            with channel.open("rb") as f:
                f.seek(read)
                part = f.read()
            read += len(part)
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "progress" in message:
                    report(message["progress"])
        if code is not None:
            return code
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the command is left running."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _what_died(code: int, plan: LaunchPlan, printed: Path, ranks: Path, begin: Mapping[Path, int]) -> str:
    """The launcher's last lines, and those of the rank that it blames, else of the first three."""
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    text = _last(printed, 0)
    parts = [f"the training's processes are gone: {Path(plan.argv[0]).name} {how}"]
    logs = {int(p.stem): p for p in ranks.glob("*.log")}
    shown = sorted(logs)[:3]
    if blamed := _ROOT_CAUSE.search(text):
        rank, exit_code = int(blamed[1]), int(blamed[2])
        died = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        parts = [f"rank {rank} of {plan.world} {died}, and the training with it"]
        shown = [r for r in (rank, *shown) if r in logs][:1]
    else:
        parts.append(f"its last lines:\n{_indented(text)}")
    for rank in shown:
        log = logs[rank]
        parts.append(f"last lines of rank {rank} ({log}):\n{_indented(_last(log, begin.get(log, 0)))}")
    return "; ".join(parts[:2]) + "".join(f"\n{part}" for part in parts[2:])


def _last(path: Path, begin: int) -> str:
    with path.open("rb") as f:
        f.seek(max(begin, path.stat().st_size - LAST_BYTES))
        return f.read().decode("utf-8", "replace")


def _indented(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()][-LAST_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"
