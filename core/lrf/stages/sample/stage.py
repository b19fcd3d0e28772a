"""Stage *sample*: the policy writes candidates, until each sample has as many as the pipeline wants.

A sample that can't be sampled is left out, with its reason. Replies and rows are kept as in stage *score*.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lrf.build import check_importable, prices_of, source_of
from lrf.config.model import RateKeys
from lrf.config.prices import read_prices
from lrf.engine.closing import close_all
from lrf.errors import GateError, LrfError
from lrf.stages.context import StageContext
from lrf.stages.data import DataResult, data_of
from lrf.stages.endings import sampler_ending_alarms
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.sample.gate import left_out_message
from lrf.stages.sample.result import CandidateCounts, SampleResult
from lrf.stages.sample.rows import count_candidates, write_candidates
from lrf.stages.sample.sampling import Sampling
from lrf.stages.spending import paid
from lrf.stages.stage import Stage, StageStoppedError
from lrf.store.cache import open_journal
from lrf.store.files import sha256_of
from lrf.store.journal import Journal
from lrf.store.spool import Spool

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline


class SampleStage(Stage[SampleResult]):
    """Draws the candidates that samples lack."""

    name = "sample"
    result = SampleResult

    def __init__(self, block: ComponentBlock) -> None:
        self.block = block

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return None if pipeline.sample is None else cls(pipeline.sample)

    def blocks(self, pipeline: Pipeline) -> Sequence[ComponentBlock]:
        return [self.block, *([pipeline.executor] if pipeline.executor else [])]

    def check(self, pipeline: Pipeline, run: RunDir) -> None:
        check_importable(pipeline, self.name, *self.blocks(pipeline))

    def own_process(self, pipeline: Pipeline) -> bool:
        return pipeline.executor is None and self.block.spec.own_process

    def fingerprint(self, context: StageContext) -> str:
        pipeline, data = context.pipeline, data_of(context.run_dir)
        keys = self.block.generation.model_dump(mode="json", exclude=set(RateKeys.model_fields))
        template = pipeline.policy.prompt_template
        return fingerprint("sample", data.sha256, pipeline.seed, context.component(self.block), keys, template)

    async def run(self, context: StageContext) -> SampleResult:
        data = await asyncio.to_thread(data_of, context.run_dir)
        journal = await asyncio.to_thread(open_journal, context.run_dir.journal, context.pipeline.cache)
        try:
            return await self._run(context, data, journal)
        finally:
            await asyncio.to_thread(journal.close)

    async def _run(self, context: StageContext, data: DataResult, journal: Journal) -> SampleResult:
        began = time.monotonic()
        stage, spool = await asyncio.to_thread(self.fingerprint, context), Spool(journal)
        sampling = await asyncio.to_thread(Sampling.of, context, self.block, journal, stage, data.samples)
        context.obey(sampling.drain)
        try:
            if sampling.ledger.budget.limited:
                before = await asyncio.to_thread(paid, journal, context.pipeline)
                before.carry_into(sampling.ledger, prices_of(context.pipeline).values())
            await spool.drop_rows(keep=stage)
            await sampling.run(source_of(context.pipeline))
        finally:
            calls = sampling.calls
            await close_all([("sample", calls.sampler, calls.aclose)], calls.server.on_fault)
            context.on_stop.remove(sampling.drain)
        reason = context.stop or sampling.fatal
        if reason is None:
            counts = await asyncio.to_thread(write_candidates, context.run_dir.candidates, spool.rows(stage))
        else:
            counts = await asyncio.to_thread(count_candidates, spool.rows(stage))
        result = await asyncio.to_thread(_result, context, journal, sampling, counts, data, began, reason)
        if reason is not None:
            done = f"{counts.samples} of {data.samples}"
            reason.add_note(f"{done} samples are sampled; the same command continues from there")
            raise StageStoppedError(reason, result)
        if counts.samples != data.samples:
            raise GateError(f"samples don't add up: {data.samples} went in, {counts.samples} came out")
        await asyncio.to_thread(self.keep, context, stage, [context.run_dir.candidates], result)
        await spool.drop_rows()
        return result

    def gate(self, context: StageContext, result: SampleResult) -> None:
        lost, total = result.left_out, result.samples
        if lost > context.pipeline.max_unscored * total or lost == total:
            limit = context.pipeline.max_unscored
            raise GateError(left_out_message(context.run_dir, result.reasons, lost=lost, samples=total, limit=limit))

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"candidates": run.candidates}


def _result(
    context: StageContext,
    journal: Journal,
    sampling: Sampling,
    counts: CandidateCounts,
    data: DataResult,
    began: float,
    stopped: LrfError | None,
) -> SampleResult:
    spending = paid(journal, context.pipeline)
    return SampleResult(
        **asdict(counts),
        usage=sampling.ledger.total(),
        embedding_calls=0,
        embedded_texts=0,
        by_dimension=dict(sampling.ledger.lines),
        all_sittings=spending.all_sittings(sampling=True),
        money=spending.money_at(read_prices(context.pipeline.prices)),
        sha256=None if stopped else sha256_of(context.run_dir.candidates),
        data=data.sha256,
        alarms=sampler_ending_alarms(journal),
        sample_seconds=round(time.monotonic() - began, 3),
    )
