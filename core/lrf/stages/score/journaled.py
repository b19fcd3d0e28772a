"""A scoring engine that uses a run's journal and budget outside of stage *score*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrf.assemble import engine_of
from lrf.build import observers_of, prices_of
from lrf.engine.engine import Engine
from lrf.plugin.catalog import load_catalog
from lrf.stages.fault_log import FaultLog
from lrf.stages.run_dir import RunDir
from lrf.stages.score.rescore import rounds_of
from lrf.stages.spending import paid
from lrf.store.cache import open_journal

if TYPE_CHECKING:
    from lrf.config import Pipeline


def journaled_engine(pipeline: Pipeline, run: RunDir, log: Any) -> Engine:
    """The engine. What the run has paid already counts against its budget. Blocks.

    Whoever makes it closes its ``journal`` and ``observers``, after the engine. No other process may write to the run's
    journal meanwhile. Raises what making the pipeline's components raises.
    """
    manager = load_catalog().plugin_manager
    observers = observers_of(
        pipeline, manager, lambda plugin, why: log.warning("observer detached", plugin=plugin, reason=why)
    )
    journal = open_journal(run.journal, pipeline.cache)
    try:
        engine = engine_of(pipeline, journal, observers, rounds=rounds_of(run))
        engine.on_fault = FaultLog(log)
        if engine.ledger.budget.limited:
            paid(journal, pipeline, engine.judges).carry_into(engine.ledger, prices_of(pipeline).values())
    except BaseException:
        journal.close()
        observers.close()
        raise
    observers.tell("lrf_run_started", run_dir=str(run.path), pipeline=pipeline.resolved)
    return engine
