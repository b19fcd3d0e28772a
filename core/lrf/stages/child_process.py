"""A stage in a process of its own: ``python -m lrf.stages.child_process RUN_DIR STAGE FOLDER``, started by the runner.

It speaks lines of JSON on its standard output: progress, and at last its counts or its error. What anything else
prints goes to standard error. When the runner dies, standard input ends, and so does the child.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lrf.engine import event_loop as interpreter
from lrf.errors import LrfError, RunInterruptedError, StageError
from lrf.store.files import dump
from lrf.types import JSON

LAST_LINES, LAST_BYTES = 20, 1 << 14


# --- the runner's side ------------------------------------------------------------------------------------------


async def run_child(
    python: str,
    run_dir: Path,
    stage: str,
    folder: Path,
    *,
    report: Callable[[Mapping[str, JSON]], None],
    on_stop: list[Callable[[LrfError], None]],
    lock_fd: int | None = None,
) -> Mapping[str, JSON]:
    """The counts of a stage that ran with this interpreter.

    Raises what the stage raised, or :class:`lrf.errors.StageError` with its last lines if it died.
    """
    command = [python, "-m", "lrf.stages.child_process", str(run_dir), stage, str(folder)]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if lock_fd is None else (lock_fd,),
            limit=1 << 22,
        )
    except OSError as e:
        raise StageError(f"the interpreter of stage {stage} can't be started: {e}") from e

    def stop(_: LrfError) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)

    on_stop.append(stop)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        outcome, tail, code = await asyncio.gather(
            _outcome(process.stdout, report), _tail(process.stderr, run_dir / f"{stage}.stderr.log"), process.wait()
        )
    finally:
        on_stop.remove(stop)
        if process.returncode is None:
            process.kill()
    if outcome and "counts" in outcome:
        counts: Mapping[str, JSON] = outcome["counts"]
        return counts
    if outcome and "error" in outcome:
        error = StageError(outcome["error"])
        error.exit_code = outcome["exit_code"]
        raise error
    lines = "\n".join(f"  {line}" for line in tail) or "  (it printed nothing)"
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise StageError(f"stage {stage} {how}; its last lines:\n{lines}")


async def _outcome(
    stream: asyncio.StreamReader, report: Callable[[Mapping[str, JSON]], None]
) -> Mapping[str, JSON] | None:
    outcome = None
    while line := await stream.readline():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if "stage" in message:
            report(message)
        else:
            outcome = message
    return outcome


async def _tail(stream: asyncio.StreamReader, log: Path) -> list[str]:
    end = b""
    with log.open("ab") as f:
        while part := await stream.read(LAST_BYTES):  # not by lines: a progress bar is one endless line
            f.write(part)
            f.flush()
            end = (end + part)[-LAST_BYTES:]
    return [line.rstrip() for line in end.decode("utf-8", "replace").splitlines()][-LAST_LINES:]


# --- the child's side -------------------------------------------------------------------------------------------


def end_with_parent() -> None:
    """End this process when its standard input does: whoever started it is gone."""
    while os.read(0, 4096):  # sys.stdin's lock, held at the interpreter's end, would be a fatal error
        pass
    os._exit(1)


def main(run_dir: str, stage: str, folder: str, out: TextIO) -> int:
    from lrf.config import parse_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.context import StageContext
    from lrf.stages.run_dir import RunDir, said_by_system
    from lrf.store.files import read_json
    from lrf.store.log import run_log

    lock = threading.Lock()

    def say(message: Mapping[str, JSON]) -> None:
        with lock:
            out.write(dump(message) + "\n")
            out.flush()

    try:
        run = RunDir(Path(run_dir))
        catalog = load_catalog()
        pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), catalog, folder=Path(folder))
        with run_log(run.log) as log:
            context = StageContext(pipeline, catalog, run, log.bind(stage=stage), report=say)
            record = read_json(run.path / "stages" / "data.json") or {}
            try:
                say({"counts": _run(context, stage, record.get("counts", {}))})
            finally:
                context.observers.close()
        return 0
    except LrfError as error:
        say({"error": "\n".join([str(error), *getattr(error, "__notes__", ())]), "exit_code": error.exit_code})
        return error.exit_code
    except OSError as error:
        say({"error": f"stage {stage}: {said_by_system(error, Path(run_dir))}", "exit_code": StageError.exit_code})
        traceback.print_exc()
        return StageError.exit_code
    except KeyboardInterrupt:
        say({"error": f"stage {stage} was stopped", "exit_code": RunInterruptedError.exit_code})
        return RunInterruptedError.exit_code
    except Exception:
        traceback.print_exc()
        return 1


def _run(context: Any, stage: str, data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    from lrf.stages.score.stage import StageStoppedError

    function = getattr(importlib.import_module(f"lrf.stages.{stage}.stage"), f"{stage}_stage")
    if stage == "train":
        counts: Mapping[str, JSON] = function(context)
        return counts

    async def run() -> Mapping[str, JSON]:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGINT, lambda: context.drain(RunInterruptedError("stopped; what is finished is kept"))
        )
        work: Awaitable[Mapping[str, JSON]] = function(context, data)
        return await work

    try:
        return interpreter.run(run())
    except StageStoppedError as error:
        raise error.reason from None


if __name__ == "__main__":
    # Standard output is the runner's channel; whatever a library prints goes to standard error.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], channel))
