"""A run: its stages in order, each skipped when it has been done, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.config.yaml_document import write_document
from lrf.errors import ConfigError, LrfError, RunError, RunInterruptedError, StageError
from lrf.stages.cards import write_cards
from lrf.stages.changes import changed_settings
from lrf.stages.child_process import run_child
from lrf.stages.context import Report, StageContext, installed_versions
from lrf.stages.data import data_stage
from lrf.stages.pairs.stage import pairs_stage
from lrf.stages.progress import Progress
from lrf.stages.run_dir import RunDir, said_by_system
from lrf.stages.sample.stage import check_left_out, sample_finished, sample_stage
from lrf.stages.score.rescore import Rescore, begin_rescore
from lrf.stages.score.stage import StageStoppedError, check_unscored, score_stage
from lrf.stages.train.launch import plan_launch
from lrf.stages.train.stage import train_finished
from lrf.store.files import replacing, write_json
from lrf.store.lock import RunLock
from lrf.store.log import run_log
from lrf.types import JSON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lrf.config import Block, Pipeline
    from lrf.plugin.catalog import Catalog

STAGES = ("data", "sample", "score", "pairs", "train")
"""The stages in their order."""

FILES = ("candidates", "rewards", "judgements", "pairs", "left_out", "bad_rows", "log", "summary", "policy")
"""What a run's summary names, where it is there; properties of :class:`RunDir`."""

HERE = {"sample": sample_stage, "score": score_stage, "pairs": pairs_stage}
"""The stages that run in this process, unless an interpreter of their own is named or a model must be given back."""

AGAIN = "see to it, and run the same command again"

LIBRARIES = (
    "aiohttp", "deepspeed", "numpy", "openai", "pluggy", "pydantic", "qdrant-client", "quicktok-v1",
    "structlog", "tokenizers", "torch", "transformers", "trl", "vllm",
)  # fmt: skip


@dataclass(slots=True)
class RunSummary:
    """How a run ended. ``status`` is "finished", "failed", "stopped" (budget) or "interrupted"."""

    run_dir: Path
    status: str = "failed"
    exit_code: int = 1
    message: str = ""
    stages: dict[str, Mapping[str, JSON]] = field(default_factory=dict)
    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    rescored: int | None = None

    def as_json(self) -> dict[str, JSON]:
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "message": self.message,
            "seconds": round(self.seconds, 3),
            "stages": self.stages,
            "alarms": self.stages.get("score", {}).get("alarms", []),
            "files": self.files,
        }


async def run_pipeline(
    pipeline: Pipeline,
    catalog: Catalog,
    runs: Path,
    *,
    first: str | None = None,
    last: str | None = None,
    report: Report = lambda _: None,
    signals: bool = False,
    rescore: Rescore | None = None,
    started: Callable[[StageContext], None] = lambda _: None,
) -> RunSummary:
    """Run the stages from ``first`` to ``last`` (inclusive) that the pipeline has; every other stage is left alone.

    The directory is ``runs / pipeline.name``. Errors that end the run are in the summary, not raised, so that the
    summary is always written; raised are only those that come before the run has its directory
    (:class:`lrf.errors.ConfigError`, :class:`lrf.errors.RunError`).

    ``started`` gets the run's context, whose ``drain`` stops the run. With ``rescore`` that is scored again, first.
    With ``signals`` (main thread only) SIGINT and SIGTERM let the run drain, and a second one ends it at once.
    """
    stages = chosen_stages(pipeline, first, last)
    run = run_directory(runs, pipeline.name)
    if "train" in stages:
        plan_launch(pipeline, run)  # processes that can't share the training are told before anything is paid for
    summary = RunSummary(run.path)
    began = time.monotonic()
    with _usable(run), RunLock(run.path) as lock, run_log(run.log) as log:
        log = log.bind(run=pipeline.name)
        if rescore is not None:
            summary.rescored = await asyncio.to_thread(begin_rescore, pipeline, run, rescore)
            log.info("rescore", command=str(rescore), candidates=summary.rescored)
        summary.changed = _keep_pipeline(run, pipeline)
        write_json(run.versions, _versions(catalog, pipeline))
        context = StageContext(pipeline, catalog, run, log, report)
        started(context)
        log.info("run started", stages=stages, changed=summary.changed)
        context.observers.tell("lrf_run_started", run_dir=str(run.path), pipeline=pipeline.resolved)
        with _draining(context) if signals else nullcontext():
            try:
                await _run_stages(context, stages, summary, lock.fileno())
                summary.status, summary.exit_code = "finished", 0
            except StageStoppedError as error:
                summary.stages[error.stage] = error.counts
                _ended(summary, error.reason)
            except LrfError as error:
                _ended(summary, error)
            except OSError as error:
                _ended(summary, StageError(f"{said_by_system(error, run.path)}; what is finished is kept: {AGAIN}"))
            except Exception as error:  # a plugin's fault, or lrf's own
                log.exception("the run failed")
                said = (
                    f"{type(error).__name__}: {error}; {run.log} has the traceback. What is finished is kept: {AGAIN}"
                )
                _ended(summary, StageError(said))
        summary.seconds = time.monotonic() - began
        summary.files = {
            name: path.name for name in FILES if (path := getattr(run, name)).exists() or name == "summary"
        }
        write_json(run.summary, summary.as_json())
        log.info("run ended", status=summary.status, message=summary.message, seconds=round(summary.seconds, 3))
        context.observers.tell("lrf_run_finished", run_dir=str(run.path), summary=summary.as_json())
        await asyncio.to_thread(context.observers.close)
    return summary


def run_directory(runs: Path, name: str) -> RunDir:
    """The directory, made if it isn't there. Raises :class:`lrf.errors.RunError`."""
    path = runs.absolute() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the run directory {path} can't be made: {error.strerror}") from error
    return RunDir(path)


@contextmanager
def _usable(run: RunDir) -> Iterator[None]:
    """What the system says of the directory's own files (log, summary, …) becomes a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{said_by_system(error, run.path)}; {AGAIN}") from error


def chosen_stages(pipeline: Pipeline, first: str | None, last: str | None) -> list[str]:
    """The stages to run. Raises :class:`lrf.errors.ConfigError` when the pipeline has none of them."""
    has = {
        "data": pipeline.data is not None,
        "sample": pipeline.sample is not None,
        "score": bool(pipeline.dimensions),
        "pairs": pipeline.pairs is not None,
        "train": pipeline.train is not None,
    }
    begin = STAGES.index(first) if first else 0
    end = STAGES.index(last) if last else len(STAGES) - 1
    chosen = [s for s in STAGES[begin : end + 1] if has[s]]
    if not chosen:
        there = ", ".join(s for s in STAGES if has[s])
        raise ConfigError(
            f"nothing to run from {first or STAGES[0]} until {last or STAGES[-1]}; this pipeline has: {there}"
        )
    return chosen


async def _run_stages(context: StageContext, stages: Sequence[str], summary: RunSummary, lock_fd: int) -> None:
    data: Mapping[str, JSON] = {}
    if {"data", "sample", "score", "pairs"} & set(stages):
        # The data is checked whenever it is used: nothing is paid for before every row has been read once.
        data = summary.stages["data"] = await data_stage(context)
    for stage in stages:
        if stage == "data":
            continue
        if context.stop:
            raise context.stop
        context.report(Progress(stage=stage, event="begins").as_json())
        context.log.info("stage begins", stage=stage)
        summary.stages[stage] = await _run_stage(context, stage, data, lock_fd)
        context.log.info("stage done", stage=stage)
        version = installed_versions(("lrf",)).get("lrf")
        write_cards(context.pipeline, context.run_dir, stage, summary.stages[stage], version)
        if stage == "sample":
            check_left_out(context, summary.stages[stage])
        if stage == "score":
            check_unscored(context, summary.stages[stage])


async def _run_stage(context: StageContext, stage: str, data: Mapping[str, JSON], lock_fd: int) -> Mapping[str, JSON]:
    python = context.pipeline.python.get(stage)
    done = None
    if stage == "train":
        done = await asyncio.to_thread(train_finished, context)
    elif python is None and not _own_process(context.pipeline, stage):
        return await HERE[stage](context, data)
    elif stage == "sample":
        done = await asyncio.to_thread(sample_finished, context, data)
    if done is not None:
        return done
    return await run_child(
        python or sys.executable,
        context.run_dir.path,
        stage,
        context.pipeline.folder,
        report=context.report,
        on_stop=context.on_stop,
        lock_fd=lock_fd,
    )


def _own_process(pipeline: Pipeline, stage: str) -> bool:
    """Whether a component of the stage holds a model of its own."""
    if stage == "sample":
        return pipeline.sample is not None and pipeline.sample.spec.own_process
    judges = {name for d in pipeline.dimensions for name in d.judges} if stage == "score" else ()
    return any(pipeline.judges[name].spec.own_process for name in judges)


def _ended(summary: RunSummary, error: LrfError) -> None:
    summary.exit_code = error.exit_code
    summary.status = {4: "stopped", 130: "interrupted"}.get(error.exit_code, "failed")
    summary.message = "\n".join([str(error), *getattr(error, "__notes__", ())])


def _keep_pipeline(run: RunDir, pipeline: Pipeline) -> list[str]:
    """Write the resolved pipeline, and say what differs from the one of the run before."""
    changed = changed_settings(run, pipeline)
    with replacing(run.pipeline) as f:
        f.write("# The pipeline of this run with every default filled in. Secrets stay ${NAME}.\n")
        write_document(pipeline.resolved, f)
    return changed


def _blocks(pipeline: Pipeline) -> list[Block]:
    maps = (pipeline.judges, pipeline.embedders, pipeline.retrievers)
    singles = (pipeline.data, pipeline.sample, pipeline.aggregator, pipeline.pairs, pipeline.train, pipeline.launcher)
    return [b for m in maps for b in m.values()] + [b for b in (*pipeline.dimensions, *singles) if b is not None]


def _versions(catalog: Catalog, pipeline: Pipeline) -> dict[str, JSON]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "lrf": installed_versions(("lrf",)).get("lrf"),
        "plugins": {f"{b.kind} {b.type}": str(catalog.package_of(b.spec)) for b in _blocks(pipeline)},
        "libraries": installed_versions(LIBRARIES),
        "seed": pipeline.seed,
        "folder": str(pipeline.folder),
    }


@contextmanager
def _draining(context: StageContext) -> Iterator[None]:
    """The first signal lets the run drain; the second ends the process at once (the journal is always safe)."""
    loop = asyncio.get_running_loop()

    def stop(name: str) -> None:
        if context.stop is not None:
            os._exit(RunInterruptedError.exit_code)
        note = f"{name}: finishing the calls in flight; once more to end at once"
        context.report(Progress(stage="run", event="stopping", note=note).as_json())
        context.drain(RunInterruptedError(f"stopped by {name}"))

    handled = (
        [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if threading.current_thread() is threading.main_thread() else []
    )
    for number in handled:
        loop.add_signal_handler(number, stop, number.name)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
