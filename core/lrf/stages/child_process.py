"""A stage in a process that ends with it: ``python -m lrf.stages.child_process RUN_DIR STAGE FOLDER [--replace]``.

STAGE is where its class is, ``package.module:Class``; FOLDER is where relative paths of the pipeline start. Standard
output is the channel to the runner (see ``lrf.stages.channel``), and what anything prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import os
import pkgutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrf.engine import event_loop
from lrf.errors import LrfError, StageError
from lrf.stages.channel import LAST_BYTES, Channel, Messages, answer, end_with_parent, how_it_ended, last_lines
from lrf.stages.context import StageContext
from lrf.stages.loop_guard import guarded
from lrf.stages.stage import BlockingStage, R, Stage, StageResult, StageStoppedError, skip_finished
from lrf.text.redaction import RedactedBytes
from lrf.types import JSON

# --- in the runner ----------------------------------------------------------------------------------------------


async def run_in_child(stage: Stage[R], context: StageContext, python: str, lock_fd: int | None = None) -> R:
    """Do a stage in a process of this interpreter, which has the run's lock, too.

    Raises what the stage raised, or :class:`lrf.errors.StageError` with the last lines of a process that died.
    """
    kind = type(stage)
    command = [python, "-m", "lrf.stages.child_process", str(context.run_dir.path)]
    command += [f"{kind.__module__}:{kind.__qualname__}", str(context.pipeline.folder)]
    command += ["--replace"] * context.replace
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if lock_fd is None else (lock_fd,),
        )
    except OSError as error:
        raise StageError(f"the interpreter of stage {stage.name} can't be started: {error}") from error

    messages = Messages(context.report)

    def stop(_: LrfError) -> None:
        if process.returncode is None:
            # before it is ready nothing has begun, and an interpreter that is starting can lose an interrupt
            process.send_signal(signal.SIGINT if messages.ready else signal.SIGKILL)

    context.obey(stop)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        _, printed, code = await asyncio.gather(
            _hear(process.stdout, messages),
            _copy(process.stderr, context.run_dir.path / f"{stage.name}.stderr.log"),
            process.wait(),
        )
    finally:
        context.on_stop.remove(stop)
        if process.returncode is None:
            process.kill()
    return _outcome(stage, messages, how_it_ended(code), printed, context.stop)


def _outcome(stage: Stage[R], messages: Messages, how: str, printed: bytes, stop: LrfError | None) -> R:
    if messages.error is not None:
        partial = None if messages.partial is None else stage.result.from_json(messages.partial)
        raise messages.error if partial is None else StageStoppedError(messages.error, partial)
    result = None if messages.result is None else stage.result.from_json(messages.result)
    if result is None and stop is not None:
        raise stop  # it was stopped before it could say anything
    if result is None:
        raise StageError(f"stage {stage.name} {how}; its last lines:\n{last_lines(printed)}")
    return result


async def _hear(stream: asyncio.StreamReader, messages: Messages) -> None:
    while part := await stream.read(LAST_BYTES):
        messages.feed(part)


async def _copy(stream: asyncio.StreamReader, log: Path) -> bytes:
    """Copy all of the stream to the log, without secrets; returns its end."""
    end, without_secrets = b"", RedactedBytes()
    with log.open("ab") as file:
        while part := await stream.read(LAST_BYTES):  # not by lines: a progress bar is one endless line
            file.write(without_secrets.feed(part))
            file.flush()
            end = (end + part)[-LAST_BYTES:]
        file.write(without_secrets.end())
    return end


# --- in the child -----------------------------------------------------------------------------------------------


def main(channel: Channel, run_dir: str, kind: str, folder: str, *options: str) -> int:
    stage_type: type[Stage[Any]] = pkgutil.resolve_name(kind)

    def work() -> Mapping[str, JSON]:
        return _result(stage_type, run_dir, folder, channel, replace="--replace" in options)

    return answer(channel, work, Path(run_dir), f"stage {stage_type.name}")


def _result(
    stage_type: type[Stage[Any]], run_dir: str, folder: str, channel: Channel, *, replace: bool
) -> Mapping[str, JSON]:
    from lrf.config import parse_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir
    from lrf.store.log import run_log

    run, catalog = RunDir(Path(run_dir)), load_catalog()
    pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), catalog, folder=Path(folder))
    stage = stage_type.of(pipeline)
    if stage is None:
        raise StageError(f"{run.pipeline} has no stage {stage_type.name}")
    with run_log(run.log) as log:
        context = StageContext(
            pipeline, catalog, run, log.bind(stage=stage.name), report=channel.progress, replace=replace
        )
        context.observers.tell("lrf_run_started", run_dir=str(run.path), pipeline=pipeline.resolved)
        try:
            result: StageResult = skip_finished(stage, context) or _run(stage, context)
        finally:
            context.observers.close()
    return result.as_json()


def _run(stage: Stage[R], context: StageContext) -> R:
    if isinstance(stage, BlockingStage):  # SIGINT ends it with KeyboardInterrupt
        result: R = stage.work(context)
        return result

    async def run() -> R:
        with guarded(context, note="", reason="stopped; what is finished is kept"):
            return await stage.run(context)

    return event_loop.run(run())


if __name__ == "__main__":
    to_runner = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what a library prints goes to standard error
    end_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the runner's way to stop it, also where `&` ignores it
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a machine that stops sends it to all processes
    to_runner.say(ready=True)
    sys.exit(main(to_runner, *sys.argv[1:]))
