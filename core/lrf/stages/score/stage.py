"""Stage *score*: every candidate gets a reward, or a reason for having none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lrf.assemble import engine_of
from lrf.build import aggregator_of, check_importable, prices_of
from lrf.config.prices import read_prices
from lrf.engine.engine import Engine
from lrf.engine.event_loop import tuned
from lrf.errors import GateError
from lrf.stages.context import StageContext
from lrf.stages.data import DataResult
from lrf.stages.endings import ending_alarms
from lrf.stages.fault_log import FaultLog
from lrf.stages.reading import check_candidates
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.sample.source import sampled, sampled_source
from lrf.stages.score.alarms import Alarms, prompt_cut_alarms
from lrf.stages.score.calibration import calibrated, drift_alarms
from lrf.stages.score.files import ScoreFiles
from lrf.stages.score.gate import unscored_message
from lrf.stages.score.inputs import judges_asked, scoring_blocks, scoring_parts
from lrf.stages.score.rescore import end_rescore, rounds_of
from lrf.stages.score.result import Drift, ScoreResult
from lrf.stages.score.scoring import Scoring
from lrf.stages.score.server_metrics import Metrics, server_metrics
from lrf.stages.spending import paid
from lrf.stages.stage import Stage, StageStoppedError
from lrf.store.cache import open_journal
from lrf.store.files import sha256_of
from lrf.store.journal import Journal
from lrf.store.spool import Spool

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline


class ScoreStage(Stage[ScoreResult]):
    """Scores all candidates.

    When it is stopped (a signal, a budget, a judge that can't work), calls in flight are finished and the files are
    made of the samples that are complete.
    """

    name = "score"
    result = ScoreResult

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return cls() if pipeline.dimensions and not pipeline.online else None

    def blocks(self, pipeline: Pipeline) -> Sequence[ComponentBlock]:
        return scoring_blocks(pipeline)

    def check(self, pipeline: Pipeline, run: RunDir) -> None:
        check_importable(pipeline, self.name, *self.blocks(pipeline))
        if self.name not in pipeline.python:
            aggregator_of(pipeline)
        check_candidates(pipeline)

    def own_process(self, pipeline: Pipeline) -> bool:
        return pipeline.executor is None and any(b.spec.own_process for b in judges_asked(pipeline).values())

    def fingerprint(self, context: StageContext) -> str:
        return fingerprint("score", sampled(context).sha256, *scoring_parts(context))

    def finished(self, context: StageContext) -> ScoreResult | None:
        result = super().finished(context)
        if result is not None:
            end_rescore(context.run_dir)
        return result

    async def run(self, context: StageContext) -> ScoreResult:
        journal = await asyncio.to_thread(open_journal, context.run_dir.journal, context.pipeline.cache)
        try:
            return await self._run(context, journal)
        finally:
            await asyncio.to_thread(journal.close)

    async def _run(self, context: StageContext, journal: Journal) -> ScoreResult:
        began = time.monotonic()
        data = await asyncio.to_thread(sampled, context)
        stage = await asyncio.to_thread(self.fingerprint, context)
        make = partial(engine_of, context.pipeline, journal, context.observers, rounds=rounds_of(context.run_dir))
        engine = await asyncio.to_thread(make) if context.pipeline.executor else make()  # workers take time to start
        engine.on_fault = FaultLog(context.log)
        context.obey(engine.drain)
        context.engine = engine
        try:
            drift, metrics = await _score(context, engine, stage, data)
        finally:
            await engine.aclose()
            context.on_stop.remove(engine.drain)
            context.engine = None
        result = await asyncio.to_thread(_write, context, engine, stage, drift, metrics, began)
        reason = context.stop or engine.fatal
        if reason is not None:
            left = (
                f"{result.samples} of {data.samples} samples are scored and kept; the same command continues from there"
            )
            for note in (*engine.left.values(), left):
                if note:
                    reason.add_note(note)
            raise StageStoppedError(reason, result)
        _check_complete(result, data)
        await asyncio.to_thread(
            self.keep, context, stage, [context.run_dir.rewards, context.run_dir.judgements], result
        )
        end_rescore(context.run_dir)
        await Spool(journal).drop_rows()
        return result

    def gate(self, context: StageContext, result: ScoreResult) -> None:
        unscored, candidates, limit = result.unscored, result.candidates, context.pipeline.max_unscored
        if candidates and unscored / candidates > limit:
            message = unscored_message(
                context.run_dir, result.reasons, unscored=unscored, candidates=candidates, limit=limit
            )
            raise GateError(message)

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"rewards": run.rewards, "judgements": run.judgements}


async def _score(
    context: StageContext, engine: Engine, stage: str, data: DataResult
) -> tuple[Drift | None, Mapping[str, Metrics]]:
    """Score everything; returns the calibration set's drift, and the metrics of the judges' servers."""
    journal, pipeline = engine.journal, context.pipeline
    if engine.ledger.budget.limited:
        before = await asyncio.to_thread(paid, journal, pipeline, engine.judges)
        before.carry_into(engine.ledger, prices_of(pipeline).values())
    await Spool(journal).drop_rows(keep=stage)
    source = await asyncio.to_thread(sampled_source, context)
    scoring = Scoring(context, engine, stage, data)
    with tuned():
        drift = await calibrated(context, engine, stage, lambda: scoring.run(source))
    return drift, await server_metrics(engine, context)


def _write(
    context: StageContext,
    engine: Engine,
    stage: str,
    drift: Drift | None,
    metrics: Mapping[str, Metrics],
    began: float,
) -> ScoreResult:
    """Write the files of what is finished. Pairs made of other rewards are removed."""
    pipeline, run, ledger = context.pipeline, context.run_dir, engine.ledger
    alarms = Alarms(pipeline.seed)
    files = ScoreFiles(alarms)
    before = sha256_of(run.rewards)
    files.write(run, Spool(engine.journal), stage)
    if before != sha256_of(run.rewards):
        run.drop_pairs()
    spending = paid(engine.journal, pipeline, engine.judges)
    names = [d.name for d in pipeline.dimensions]
    raised = alarms.raised((name, spending.asked[name], spending.asked_again[name]) for name in names)
    titles = {judge.identity: judge.server.title for judge in engine.judges.values()}
    raised += drift_alarms(drift) + prompt_cut_alarms(files.reasons) + ending_alarms(engine.journal, titles)
    for alarm in raised:
        context.log.warning("alarm", **{name: value for name, value in asdict(alarm).items() if value is not None})
    counts = files.counts
    return ScoreResult(
        samples=counts["samples"],
        candidates=counts["candidates"],
        scored=counts["scored"],
        unscored=counts["unscored"],
        transient=counts["transient"],
        reasons=dict(files.reasons.most_common()),
        rated={name: files.rated[name] for name in names},
        counted={name: dict(numbers) for name, numbers in sorted(files.counted.items()) if numbers},
        usage=ledger.total(),
        embedding_calls=ledger.embedding_calls,
        embedded_texts=ledger.embedded_texts,
        by_dimension=dict(sorted(ledger.lines.items())),
        all_sittings=spending.all_sittings(sampling=False),
        money=spending.money_at(read_prices(pipeline.prices)),
        alarms=raised,
        judges=metrics,
        calibration=drift,
        score_seconds=round(time.monotonic() - began, 3),
    )


def _check_complete(result: ScoreResult, data: DataResult) -> None:
    if result.candidates != data.candidates or result.samples != data.samples:
        raise GateError(
            f"rows don't add up: {data.samples} samples with {data.candidates} candidates went in, "
            f"{result.samples} with {result.candidates} came out (did the data change while it was read?)"
        )
