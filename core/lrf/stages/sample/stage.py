"""Stage *sample*: the policy writes candidates, until each sample has as many as the pipeline wants.

As in stage *score*, every reply is committed before it is used, what a sample yields waits in the journal's rows, and
the file is made of these in input order. A sample that can't be sampled is left out, with its reason.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrf.build import budget_of, prices_of, rates_of, sampler_of, source_of
from lrf.config.model import SampleKeys
from lrf.config.prices import SAMPLING, read_prices
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import FATAL
from lrf.engine.sampler_calls import SamplerCalls
from lrf.errors import GateError, JudgeError, LrfError, Reason, RunInterruptedError, UnscorableError
from lrf.prompting.templates import Template
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress, budget_use, waiting
from lrf.stages.reading import missing_candidates, prompt_template, sample_digest, samples
from lrf.stages.sample.rows import left_out, row_of, write_candidates
from lrf.stages.score.stage import StageStoppedError
from lrf.stages.spending import paid
from lrf.store.cache import open_journal
from lrf.store.files import dump
from lrf.store.journal import Journal
from lrf.store.spool import Spool
from lrf.types import JSON, Sample

TICK_S = 0.25


async def sample_stage(context: StageContext, data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Counts of the stage. ``data`` are the counts of stage *data*. A stop is raised once calls in flight are kept."""
    finished = await asyncio.to_thread(sample_finished, context, data)
    if finished is not None:
        return finished
    fingerprint = context.sample_fingerprint(data["sha256"])
    journal = await asyncio.to_thread(open_journal, context.run_dir.journal, context.pipeline.cache)
    began = time.monotonic()
    try:
        sampling = await asyncio.to_thread(_sampling, context, journal, fingerprint)
        ledger, prices = sampling.calls.ledger, read_prices(context.pipeline.prices)
        context.on_stop.append(sampling.drain)
        try:
            if ledger.budget.limited:
                before = await asyncio.to_thread(paid, journal, context.pipeline)
                before.carry_into(ledger, prices_of(context.pipeline).values())
            await Spool(journal).drop_rows(keep=fingerprint)
            await sampling.run(data["samples"])
        finally:
            await sampling.calls.aclose()
            context.on_stop.remove(sampling.drain)
        took = {
            **ledger.as_json(),
            "money": (await asyncio.to_thread(paid, journal, context.pipeline)).as_json(prices),
            "sample_seconds": round(time.monotonic() - began, 3),
        }
        reason = context.stop or sampling.fatal
        if reason is not None:
            done = f"{sampling.done['samples']} of {data['samples']}"
            reason.add_note(f"{done} samples are sampled; the same command goes on from there")
            raise StageStoppedError(reason, {**sampling.done, **took}, stage="sample")
        counts = await asyncio.to_thread(write_candidates, context.run_dir.candidates, Spool(journal).rows(fingerprint))
        if counts["samples"] != data["samples"]:
            raise GateError(f"samples don't add up: {data['samples']} went in, {counts['samples']} came out")
        counts = {**counts, "data": data["sha256"], **took}
        context.run_dir.record("sample").write(fingerprint, [context.run_dir.candidates], counts)
        await Spool(journal).drop_rows()
        return counts
    finally:
        await asyncio.to_thread(journal.close)


def sample_finished(context: StageContext, data: Mapping[str, JSON]) -> Mapping[str, JSON] | None:
    """The counts of the stage if it has been done with this data and these settings, and nothing is worth a retry."""
    counts = context.run_dir.record("sample").finished(context.sample_fingerprint(data["sha256"]))
    return None if counts is None or counts["transient"] else counts


def check_left_out(context: StageContext, counts: Mapping[str, JSON]) -> None:
    """The failure gate. Raises :class:`lrf.errors.GateError` when more is left out than the pipeline allows."""
    lost, total = counts["left_out"], counts["samples"]
    if lost > context.pipeline.max_unscored * total or lost == total:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in list(counts["reasons"].items())[:5])
        raise GateError(
            f"{lost} of {total} samples have no candidates, more than `max_unscored: "
            f"{context.pipeline.max_unscored:g}` allows; reasons: {reasons}. Look into {context.run_dir.candidates}, "
            "mend the cause or raise the limit, and run the same command again"
        )


def _sampling(context: StageContext, journal: Journal, stage: str) -> _Sampling:
    pipeline = context.pipeline
    assert pipeline.sample is not None

    def listen(judge: str, kind: str, sample: str, attempt: int, seconds: float, error: str | None) -> None:
        call = {"judge": judge, "kind": kind, "sample_id": sample, "attempt": attempt}
        context.observers.tell("lrf_call_finished", **call, seconds=seconds, error=error)

    ledger, price = BudgetLedger(budget_of(pipeline)), prices_of(pipeline).get(SAMPLING)
    calls = SamplerCalls(SAMPLING, sampler_of(pipeline), journal, ledger, listen, price, rates_of(pipeline.sample))
    return _Sampling(context, calls, stage, pipeline.sample.generation, prompt_template(pipeline))


@dataclass(slots=True)
class _Sampling:
    """All samples of the data on their way through the sampler."""

    context: StageContext
    calls: SamplerCalls
    stage: str
    keys: SampleKeys
    template: Template
    fatal: LrfError | None = None
    done: Counter[str] = field(default_factory=Counter)

    def drain(self, reason: LrfError | None = None) -> None:
        """Stop: calls in flight are finished and kept, no other begins. The first reason given counts."""
        self.fatal = self.fatal or reason or RunInterruptedError("stopped")
        self.calls.drain()

    async def run(self, of_samples: int) -> None:
        """Sample by sample, only so many at once that the sampler is kept busy."""
        sampler = self.calls.sampler
        calls_each = max(1, self.keys.n // sampler.per_call)
        room = asyncio.Semaphore(2 + 2 * sampler.max_concurrency // calls_each)
        open_: set[asyncio.Task[None]] = set()

        def finished(task: asyncio.Task[None]) -> None:
            open_.discard(task)
            room.release()
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._failed(error)

        async def open_all() -> None:
            async for position, sample in samples(source_of(self.context.pipeline)):
                await room.acquire()
                if self.fatal or self.context.stop:
                    break
                task = asyncio.create_task(self._one(position, sample))
                open_.add(task)
                task.add_done_callback(finished)

        async def tick() -> None:
            while True:
                self._report(of_samples)
                await asyncio.sleep(TICK_S)

        ticker = asyncio.create_task(tick())
        try:
            try:
                await open_all()
            except Exception as e:  # what is in flight is paid for: it is finished first
                self._failed(e)
            while open_:
                await asyncio.wait(open_)
        finally:
            ticker.cancel()
            self._report(of_samples)

    def _failed(self, error: BaseException) -> None:
        self.drain(error if isinstance(error, LrfError) else LrfError(f"{type(error).__name__}: {error}"))

    def _report(self, of_samples: int) -> None:
        total = self.calls.ledger.total()
        progress = Progress(
            stage="sample",
            samples=self.done["samples"],
            of_samples=of_samples,
            candidates=self.done["candidates"],
            left_out=self.done["left_out"],
            calls=total.calls,
            reused=total.reused,
            retried=sum(self.calls.retried.values()),
            in_flight=self.calls.limiter.in_flight,
            tokens=total.prompt_tokens + total.completion_tokens,
            budget=budget_use(self.calls.ledger),
            waits=waiting(self.calls.waits),
        )
        self.context.report(progress.as_json())

    async def _one(self, position: int, sample: Sample) -> None:
        mark = sample_digest(sample)
        if await Spool(self.calls.journal).has_row(self.stage, position, mark):
            self.done["samples"] += 1
            return
        row = await self._row(sample, position)
        out, transient = row["left_out"], False
        if out is not None:
            transient = out.pop("transient")
            self.context.log.info("left out", sample=sample.id, reason=out["reason"])
        await Spool(self.calls.journal).put_row(self.stage, position, sample.id, mark, dump(row), transient=transient)
        self.done.update(samples=1, candidates=len(row["candidates"]), left_out=out is not None)

    async def _row(self, sample: Sample, position: int) -> dict[str, Any]:
        """What becomes of a sample: a row of ``candidates.jsonl``."""
        try:
            generation = missing_candidates(self.context.pipeline, sample, self.template)
            replies = await self.calls.draw(generation, sample.id, position)
        except FATAL as error:
            self.drain(error)
            raise self.fatal or error from None
        except UnscorableError as error:
            return left_out(sample, error.reason, error.detail, transient=error.transient)
        except JudgeError as error:
            return left_out(sample, error.reason, str(error), transient=True)
        except Exception as error:  # a plugin's fault ends as data, too
            return left_out(sample, Reason.SAMPLER_ERROR, traceback.format_exception_only(error)[-1].strip())
        sampler = self.calls.sampler
        seeds = generation.seeds if sampler.capabilities.seed else None
        source = str(sampler.identity.get("model") or sampler.identity.get("type"))
        return row_of(sample, replies, seeds, source, self.keys)
