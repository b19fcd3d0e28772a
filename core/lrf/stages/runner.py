"""A run: its stages in order, each skipped when it is finished, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.errors import ConfigError, LrfError, RunError, StageError
from lrf.stages.before_paying import check_before_paying
from lrf.stages.child_process import run_in_child
from lrf.stages.context import Report, StageContext
from lrf.stages.loop_guard import guarded
from lrf.stages.order import STAGES
from lrf.stages.progress import Progress
from lrf.stages.run_dir import RunDir, said_by_system
from lrf.stages.stage import PaidResult, Stage, StageResult, StageStoppedError, skip_finished
from lrf.stages.summary import RunSummary
from lrf.stages.versions import keep_pipeline, write_versions
from lrf.store.files import sync_folder, write_json
from lrf.store.lock import RunLock
from lrf.store.log import run_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lrf.config import Pipeline
    from lrf.plugin.catalog import Catalog

AGAIN = "mend that, and run the same command again"

Stages = Sequence[type[Stage[Any]]]
BeforePaying = Callable[[Stage[Any]], Awaitable[None]]


async def run_pipeline(
    pipeline: Pipeline,
    catalog: Catalog,
    runs: Path,
    *,
    first: str | None = None,
    last: str | None = None,
    report: Report = lambda _: None,
    signals: bool = False,
    before: Callable[[RunDir], Mapping[str, object]] | None = None,
    started: Callable[[StageContext], None] = lambda _: None,
    before_paying: BeforePaying | None = None,
    replace: bool = False,
    stages: Stages = STAGES,
) -> RunSummary:
    """Run the stages from ``first`` to ``last`` (inclusive) that the pipeline has; every other stage is left alone.

    The directory is ``runs / pipeline.name``. An error that ends the run is in the summary, which is always written;
    only errors that come before the run has its directory are raised (:class:`lrf.errors.ConfigError`,
    :class:`lrf.errors.RunError`).

    Parameters
    ----------
    signals: SIGINT, SIGTERM and SIGHUP let the run drain, and a second one ends it at once (main thread only).
    before: called in a thread once the directory is locked; what it returns is logged. Its errors are raised.
    started: called with the run's context, whose ``drain`` stops the run.
    before_paying: awaited before each stage that pays for calls and isn't finished.
    replace: a policy that was made with other data or settings may be removed.
    stages: all that there are, in their order.
    """
    chosen = chosen_stages(pipeline, first, last, stages)
    run = run_directory(runs, pipeline.name)
    for stage in chosen:
        stage.check(pipeline, run)
    summary = RunSummary(run.path)
    began = time.monotonic()
    with _usable(run), RunLock(run.path) as lock, run_log(run.log) as log:
        log = log.bind(run=pipeline.name)
        if before is not None:
            log.info("before the run", **await asyncio.to_thread(before, run))
        summary.changed = keep_pipeline(run, pipeline)
        write_versions(run, pipeline, catalog)
        context = StageContext(pipeline, catalog, run, log, report, replace=replace)
        started(context)
        log.info("run started", stages=[stage.name for stage in chosen], changed=summary.changed)
        context.observers.tell("lrf_run_started", run_dir=str(run.path), pipeline=pipeline.resolved)
        with guarded(context) if signals else nullcontext():
            await _run_stages(context, chosen, summary, lock.fileno(), before_paying)
        summary.seconds = time.monotonic() - began
        summary.files = _files(pipeline, run, stages)
        write_json(run.summary, summary.as_json())
        log.info("run ended", status=summary.status, message=summary.message, seconds=round(summary.seconds, 3))
        context.observers.tell("lrf_run_finished", run_dir=str(run.path), summary=summary.as_json())
        await asyncio.to_thread(context.observers.close)
    return summary


def run_directory(runs: Path, name: str) -> RunDir:
    """The directory, made if it isn't there. Raises :class:`lrf.errors.RunError`."""
    path = runs.absolute() / name
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"the run directory {path} can't be made: {error.strerror}") from error
    return RunDir(path)


def chosen_stages(
    pipeline: Pipeline, first: str | None = None, last: str | None = None, stages: Stages = STAGES
) -> list[Stage[Any]]:
    """The stages from ``first`` to ``last`` that the pipeline has, and before them what they need.

    Raises :class:`lrf.errors.ConfigError` when the pipeline has none of them.
    """
    names = [kind.name for kind in stages]
    for name in (first, last):
        if name is not None and name not in names:
            raise ConfigError(f"no stage is named {name!r}; allowed: {', '.join(names)}")
    has = {kind.name: stage for kind in stages if (stage := kind.of(pipeline)) is not None}
    begin, end = names.index(first or names[0]), names.index(last or names[-1])
    wanted = {name for name in names[begin : end + 1] if name in has}
    if not wanted:
        raise ConfigError(f"nothing to run from {names[begin]} until {names[end]}; this pipeline has: {', '.join(has)}")
    wanted |= {needed for name in wanted for needed in has[name].needs}
    return [stage for name, stage in has.items() if name in wanted]


async def _run_stages(
    context: StageContext,
    stages: Sequence[Stage[Any]],
    summary: RunSummary,
    lock_fd: int,
    before_paying: BeforePaying | None,
) -> None:
    """Do one stage after another. The summary gets each one's result, and how the run ended."""
    try:
        for place, stage in enumerate(stages):
            if context.stop:
                raise context.stop
            result = await _run_stage(context, stage, lock_fd, before_paying, stages[place + 1 :])
            summary.results[stage.name] = result
            _write_card(context, stage, result)
            stage.gate(context, result)
        summary.status, summary.exit_code = "finished", 0
    except StageStoppedError as error:
        summary.results[stage.name] = error.result
        summary.ended(error.reason)
    except LrfError as error:
        summary.ended(error)
    except OSError as error:
        context.log.exception("the run failed")
        where = said_by_system(error, context.run_dir.path)
        summary.ended(StageError(f"{where}; what is finished is kept: {AGAIN}"))
    except Exception as error:  # a plugin's fault, or lrf's own
        context.log.exception("the run failed")
        said = f"{type(error).__name__}: {error}; {context.run_dir.log} has the traceback"
        summary.ended(StageError(f"{said}. What is finished is kept: {AGAIN}"))


async def _run_stage(
    context: StageContext,
    stage: Stage[Any],
    lock_fd: int,
    before_paying: BeforePaying | None,
    later: Sequence[Stage[Any]],
) -> StageResult:
    skipped: StageResult | None = await asyncio.to_thread(skip_finished, stage, context)
    if skipped is not None:
        context.report(Progress(stage=stage.name, event="skipped").as_json())
        context.log.info("stage skipped", stage=stage.name, reason=skipped.skipped_because)
        return skipped
    if issubclass(stage.result, PaidResult):
        await asyncio.to_thread(check_before_paying, context, [stage, *later])
    if before_paying is not None and issubclass(stage.result, PaidResult):
        await before_paying(stage)
        if context.stop:
            raise context.stop
    context.report(Progress(stage=stage.name, event="begins").as_json())
    context.log.info("stage begins", stage=stage.name)
    python = context.pipeline.python.get(stage.name)
    result: StageResult
    if python is not None or stage.own_process(context.pipeline):
        result = await run_in_child(stage, context, python or sys.executable, lock_fd)
    else:
        result = await stage.run(context)
    context.log.info("stage done", stage=stage.name)
    return result


def _write_card(context: StageContext, stage: Stage[Any], result: StageResult) -> None:
    try:
        stage.card(context, result)
    except OSError as error:
        where = said_by_system(error, context.run_dir.path)
        raise StageError(f"{where}; what the card describes is whole. Run the command again") from error


def _files(pipeline: Pipeline, run: RunDir, stages: Stages) -> dict[str, str]:
    """Names of the files that the run's directory has, by what they are."""
    made = [stage.files(run) for kind in stages if (stage := kind.of(pipeline)) is not None]
    paths = {name: path for files in made for name, path in files.items() if path.exists()}
    paths |= {"log": run.log, "summary": run.summary}
    return {name: str(path.relative_to(run.path)) for name, path in paths.items()}


@contextmanager
def _usable(run: RunDir) -> Iterator[None]:
    """What the system says of the directory's own files (log, summary, …) becomes a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{said_by_system(error, run.path)}; {AGAIN}") from error
