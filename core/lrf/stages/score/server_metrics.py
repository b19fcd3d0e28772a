"""What judges report about their servers at the end of a stage, for the log and the summary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from lrf.engine.engine import Engine
from lrf.errors import JudgeError
from lrf.protocols import ReportsMetrics
from lrf.stages.context import StageContext

PATIENCE_S = 10.0

Metrics = Mapping[str, JsonValue]


async def server_metrics(engine: Engine, context: StageContext) -> dict[str, Metrics]:
    """The metrics of each judge that reports some, by the judge's name."""
    metrics = {}
    for name, calls in engine.judges.items():
        if not isinstance(calls.judge, ReportsMetrics):
            continue
        try:
            async with asyncio.timeout(PATIENCE_S):
                of_judge = await calls.judge.metrics()
        except (JudgeError, TimeoutError):  # they are for people; the run doesn't wait for them for long
            continue
        if of_judge:
            metrics[name] = of_judge
            context.log.info("judge", judge=name, **of_judge)
    return metrics
