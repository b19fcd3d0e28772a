"""The processes of a training: started by a launcher's command, followed through files, and ended with the stage.

Each is ``lrf.stages.train.worker``. It writes to files of its own in ``launch/ranks``: what it prints to ``N.log``, progress
and outcome as lines of JSON to ``N.jsonl``. Files work alike under every launcher, on one machine or many.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrf.errors import LrfError, StageError
from lrf.protocols import LaunchPlan
from lrf.types import JSON

WATCHED = "LRF_STDIN_ENDS_WITH_THE_RUN"
"""Set for processes of this machine: their standard input is the stage's, and they end when it does."""

PATIENCE_S = 20.0
SETTLE_S = 10.0
"""For so long a network filesystem may not show what another machine has written."""

LAST_LINES, LAST_BYTES = 20, 1 << 14
_POLL_S = 0.1
_FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank[^)]*\)\s*exitcode\s*:\s*(-?\d+)")  # torchrun's words

Report = Callable[[Mapping[str, JSON]], None]


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
    told, until = _told(ranks), time.monotonic() + SETTLE_S
    while code == 0 and not any("result" in m or "error" in m for m in told.get(0, ())) and time.monotonic() < until:
        time.sleep(_POLL_S)
        told = _told(ranks)
    result: Any = next((m["result"] for m in told.get(0, ()) if "result" in m), None)
    if result is not None:
        return dict(result)
    errors = {rank: m for rank, messages in sorted(told.items()) for m in messages if "error" in m}
    blamed = _blamed(_last(printed, 0))
    # A rank that is killed makes the others fail, too: what they say is then not the reason. One that only failed may
    # itself have fallen over the rank that says why.
    if errors and (blamed is None or blamed[0] in errors or blamed[1] > 0):
        first = errors[blamed[0]] if blamed and blamed[0] in errors else next(iter(errors.values()))
        error: LrfError = StageError(first["error"])
        error.exit_code = first["exit_code"]
        raise error
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


def _told(ranks: Path) -> dict[int, list[Any]]:
    """What each rank has said, by its number. A line that isn't whole was never said."""
    texts = {int(path.stem): path.read_bytes() for path in ranks.glob("*.jsonl")}
    return {rank: [json.loads(line) for line in text.split(b"\n")[:-1]] for rank, text in texts.items()}


def _what_died(code: int, plan: LaunchPlan, printed: Path, ranks: Path, begin: Mapping[Path, int]) -> str:
    """The launcher's last lines, and those of the rank that it blames, else of the first three."""
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    text = _last(printed, 0)
    parts = [f"the training's processes are gone: {Path(plan.argv[0]).name} {how}"]
    logs = {int(p.stem): p for p in ranks.glob("*.log")}
    shown = sorted(logs)[:3]
    if blamed := _blamed(text):
        rank, exit_code = blamed
        died = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        parts = [f"rank {rank} of {plan.world} {died}, and the training with it"]
        shown = [r for r in (rank, *shown) if r in logs][:1]
    else:
        parts.append(f"its last lines:\n{_indented(text)}")
    for rank in shown:
        log = logs[rank]
        parts.append(f"last lines of rank {rank} ({log}):\n{_indented(_last(log, begin.get(log, 0)))}")
    return "; ".join(parts[:2]) + "".join(f"\n{part}" for part in parts[2:])


def _blamed(text: str) -> tuple[int, int] | None:
    """The rank that torchrun says failed, and its exit code: one that a signal ended, else the first."""
    found = [(int(rank), int(code)) for rank, code in _FAILURE.findall(text)]
    signalled = [one for one in found if one[1] < 0 and one[1] != -signal.SIGTERM]  # torchrun ends the others with it
    return next(iter((*signalled, *found)), None)


def _last(path: Path, begin: int) -> str:
    with path.open("rb") as f:
        f.seek(max(begin, path.stat().st_size - LAST_BYTES))
        return f.read().decode("utf-8", "replace")


def _indented(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()][-LAST_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"
