"""The processes of a training: started by a launcher's command, followed through files, and ended with the stage.

Each process is ``lrf.stages.train.worker``, which writes to files in ``launch/ranks``. Files work alike under every
launcher, on one machine or many.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lrf.errors import LrfError, StageError
from lrf.protocols import LaunchPlan
from lrf.stages.channel import LAST_BYTES, Messages, Report, how_it_ended, last_lines
from lrf.text.redaction import RedactedBytes
from lrf.types import JSON

WATCHED = "LRF_STDIN_ENDS_WITH_THE_RUN"
"""Set for processes of this machine: their standard input is the stage's, and they end when it does."""

PATIENCE_S = 20.0
STOPPING_S = 1800.0
"""How long processes that are to stop may take to finish their step and save their state."""

SETTLE_S = 10.0
"""How long a network filesystem may take to show what another machine has written."""

_POLL_S = 0.1
_FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank[^)]*\)\s*exitcode\s*:\s*(-?\d+)")  # torchrun's words


def launch(plan: LaunchPlan, folder: Path, report: Report) -> Mapping[str, JSON]:
    """Start the plan's command, pass on rank 0's progress, and return its result.

    At SIGTERM or SIGINT the processes are asked to stop, and what rank 0 says of it is raised; more of these signals
    change nothing. Raises what a rank raised, or :class:`lrf.errors.StageError` with the last lines of those that died.
    However this ends, even by SIGKILL, the processes of this machine end with it.
    """
    ranks = folder / "ranks"
    ranks.mkdir(exist_ok=True)
    for old in ranks.glob("*.jsonl"):
        old.unlink()
    printed_before = {log: log.stat().st_size for log in ranks.glob("*.log")}
    printed = folder / "launcher.log"
    process = _start(plan)
    copying = threading.Thread(target=_copy, args=(process, printed), daemon=True)
    copying.start()
    with _signals_noted() as signals:
        try:
            first = _follow(process, ranks / "0.jsonl", report, signals)
        finally:
            _end(process)
            copying.join(PATIENCE_S)
    code = process.returncode
    until = time.monotonic() + SETTLE_S
    while code == 0 and first.messages.result is None and first.messages.error is None and time.monotonic() < until:
        time.sleep(_POLL_S)
        first.read()
    if first.messages.result is not None:
        if code and not signals:
            report({"note": f"the launcher {how_it_ended(code)} after the training was complete; its result is kept"})
        result: Mapping[str, JSON] = first.messages.result
        return result
    errors = _errors(ranks)
    if signals:
        raise next(iter(errors.values()), KeyboardInterrupt())
    blamed = _blamed(_printed_since(printed, 0).decode("utf-8", "replace"))
    # When a rank is killed, the others fail, too: their errors are then not the reason. A rank that only failed may
    # itself have failed because of the rank whose error says why.
    if errors and (blamed is None or blamed[0] in errors or blamed[1] > 0):
        raise errors[blamed[0]] if blamed and blamed[0] in errors else next(iter(errors.values()))
    raise StageError(_what_died(code, plan, printed, ranks, printed_before))


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Within it SIGTERM and SIGINT are put into a list, and do nothing else (in the main thread; elsewhere, as before).

    A machine that stops sends SIGTERM to everything, and lrf then SIGINT to this process: they are one wish.
    """
    noted: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(plan: LaunchPlan) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - the plan's own command
            plan.argv,
            env={**os.environ, **plan.env, WATCHED: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except OSError as error:
        raise StageError(f"{plan.argv[0]} can't be started: {error}") from error


def _copy(process: subprocess.Popen[bytes], log: Path) -> None:
    """Copy what the launcher prints to its log, without secrets."""
    assert process.stdout is not None
    without_secrets = RedactedBytes()
    with log.open("wb") as file:
        while part := os.read(process.stdout.fileno(), LAST_BYTES):
            file.write(without_secrets.feed(part))
            file.flush()
        file.write(without_secrets.end())


@dataclass(slots=True)
class _ChannelFile:
    """A rank's channel, read as far as it is written."""

    path: Path
    messages: Messages = field(default_factory=Messages)
    _read: int = 0

    def read(self) -> None:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                part = file.read()
            self._read += len(part)
            self.messages.feed(part)


def _follow(process: subprocess.Popen[bytes], path: Path, report: Report, signals: list[int]) -> _ChannelFile:
    """Pass on a rank's progress until the process has ended, which a signal asks it to; returns the rank's channel."""
    channel = _ChannelFile(path, Messages(report))
    until: float | None = None
    while True:
        ended = process.poll() is not None
        channel.read()
        if ended or (until is not None and time.monotonic() > until):
            return channel
        if signals and until is None:
            process.terminate()
            until = time.monotonic() + STOPPING_S
        time.sleep(_POLL_S)


def _errors(ranks: Path) -> dict[int, LrfError]:
    """The errors that ranks have said, by the rank's number, in order."""
    errors = {}
    for path in sorted(ranks.glob("*.jsonl"), key=lambda path: int(path.stem)):
        channel = _ChannelFile(path)
        channel.read()
        if channel.messages.error is not None:
            errors[int(path.stem)] = channel.messages.error
    return errors


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


def _what_died(code: int, plan: LaunchPlan, printed: Path, ranks: Path, printed_before: Mapping[Path, int]) -> str:
    """The launcher's last lines, and those of the rank that it blames, else of the first three."""
    output = _printed_since(printed, 0)
    logs = {int(path.stem): path for path in ranks.glob("*.log")}
    if blamed := _blamed(output.decode("utf-8", "replace")):
        rank, exit_code = blamed
        parts = [f"rank {rank} of {plan.world} {how_it_ended(exit_code)}, and the training with it"]
        shown = [r for r in (rank, *sorted(logs)) if r in logs][:1]
    else:
        parts = [
            f"the training's processes are gone: {Path(plan.argv[0]).name} {how_it_ended(code)}",
            f"its last lines:\n{last_lines(output)}",
        ]
        shown = sorted(logs)[:3]
    for rank in shown:
        log = logs[rank]
        lines = last_lines(_printed_since(log, printed_before.get(log, 0)))
        parts.append(f"last lines of rank {rank} ({log}):\n{lines}")
    return "; ".join(parts[:2]) + "".join(f"\n{part}" for part in parts[2:])


def _blamed(text: str) -> tuple[int, int] | None:
    """The rank that torchrun says failed, and its exit code: one that a signal ended, else the first."""
    failed = [(int(rank), int(code)) for rank, code in _FAILURE.findall(text)]
    signalled = [one for one in failed if one[1] < 0 and one[1] != -signal.SIGTERM]  # torchrun ends the others with it
    return next(iter((*signalled, *failed)), None)


def _printed_since(path: Path, begin: int) -> bytes:
    """The end of what was printed to a file after its first ``begin`` bytes."""
    with path.open("rb") as file:
        file.seek(max(begin, path.stat().st_size - LAST_BYTES))
        return file.read()
