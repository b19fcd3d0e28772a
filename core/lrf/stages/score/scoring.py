"""The samples of the data on their way through the engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from lrf.engine.engine import Engine
from lrf.protocols import Source
from lrf.stages.context import StageContext
from lrf.stages.data import DataResult
from lrf.stages.feeding import Feeder, FinishedSample
from lrf.stages.progress import Progress, budget_use, waiting
from lrf.stages.score.files import journal_row
from lrf.stages.score.watchdog import STALL_S, UNSTEADY_STALL_S, Watchdog
from lrf.store.spool import Spool
from lrf.types import Sample


@dataclass(slots=True)
class Scoring:
    """Scores all samples. Their rows are kept in the journal under ``stage``; ``data`` is for progress."""

    context: StageContext
    engine: Engine
    stage: str
    data: DataResult
    feeder: Feeder = field(init=False)
    watchdog: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        engine, context, data = self.engine, self.context, self.data
        candidates = -(-data.candidates // max(1, data.samples))
        calls_each = candidates * len(engine.dimensions)
        self.feeder = Feeder(
            context, Spool(engine.journal), self.stage, engine, calls_each, self._row, engine.drain, self._report
        )
        steady = all(judge.judge.capabilities.steady for judge in engine.judges.values())
        self.watchdog = Watchdog(
            engine,
            lambda stall: context.log.warning("no reply for long", **asdict(stall)),
            {name for name, block in context.pipeline.judges.items() if block.spec.own_process},
            STALL_S if steady else UNSTEADY_STALL_S,
        )

    async def run(self, source: Source) -> None:
        """Score all samples of the source."""
        await self.feeder.feed(source)

    async def _row(self, sample: Sample, position: int) -> FinishedSample:
        rewards = await self.engine.score(sample, position)
        unscored = [(reward.candidate_id, reward.unscored) for reward in rewards if reward.unscored]
        for candidate, why in unscored:
            self.context.log.info(
                "unscored", sample=sample.id, candidate=candidate, dimension=why.dimension, reason=why.reason
            )
        counts = {"candidates": len(rewards), "unscored": sum(reward.reward is None for reward in rewards)}
        return FinishedSample(journal_row(rewards, sample), counts, any(why.transient for _, why in unscored))

    def _report(self) -> None:
        engine, data, done = self.engine, self.data, self.feeder.done
        total = engine.ledger.total()
        progress = Progress(
            stage="score",
            samples=done["samples"],
            of_samples=data.samples,
            candidates=done["candidates"],
            of_candidates=data.candidates,
            unscored=done["unscored"],
            calls=total.calls,
            reused=total.reused,
            retried=sum(engine.retried.values()),
            in_flight=engine.in_flight,
            tokens=total.prompt_tokens + total.completion_tokens,
            budget=budget_use(engine.ledger),
            waits=waiting(engine.waits),
            stall=self.watchdog.look(),
        )
        self.context.report(progress.as_json())
