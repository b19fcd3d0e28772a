"""What judges tell of their servers at the end of a stage, for the log and the summary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lrf.engine.engine import Engine
from lrf.errors import JudgeError
from lrf.protocols import ReportsMetrics
from lrf.stages.context import StageContext
from lrf.types import JSON

PATIENCE_S = 10.0


async def judge_figures(engine: Engine, context: StageContext) -> dict[str, Mapping[str, JSON]]:
    """The figures of each judge that tells some, by its name."""
    found = {}
    for name, calls in engine.judges.items():
        if not isinstance(calls.judge, ReportsMetrics):
            continue
        try:
            async with asyncio.timeout(PATIENCE_S):
                figures = await calls.judge.metrics()
        except (JudgeError, TimeoutError):  # they are for people; the run doesn't hang on them
            continue
        if figures:
            found[name] = figures
            context.log.info("judge", judge=name, **figures)
    return found
