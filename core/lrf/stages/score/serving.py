"""Scoring outside of a run's stages, with the run's journal, so that nothing is paid for twice."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.engine.engine import Engine
from lrf.errors import ConfigError
from lrf.stages.run_dir import RunDir
from lrf.stages.runner import run_directory
from lrf.stages.score.journaled import journaled_engine
from lrf.store.lock import RunLock
from lrf.store.log import run_log

if TYPE_CHECKING:
    from lrf.config import Pipeline


def engine_in_run(pipeline: Pipeline, runs: Path, closing: ExitStack) -> tuple[Engine, RunDir]:
    """The scoring engine of a pipeline with the journal of its run, and the run's directory. Blocks.

    ``closing`` gets what is to be closed after engine and journal: the run's lock and log.

    Raises :class:`lrf.errors.RunError` while another process uses the run, :class:`lrf.errors.ConfigError` for a
    pipeline without dimensions.
    """
    if not pipeline.dimensions:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to score with")
    run = run_directory(runs, pipeline.name)
    closing.enter_context(RunLock(run.path))
    log = closing.enter_context(run_log(run.log)).bind(run=pipeline.name)
    engine = journaled_engine(pipeline, run, log)
    log.info("serving rewards")
    return engine, run
