"""The samples of the data on their way through the sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from lrf.build import budget_of, executor_of, prices_of, rates_of, sampler_of
from lrf.config.model import SampleKeys
from lrf.config.prices import SAMPLING
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import FATAL
from lrf.engine.faults import fault_of
from lrf.engine.sampler_calls import SamplerCalls
from lrf.errors import JudgeError, LrfError, Reason, UnscorableError
from lrf.prompting.templates import Template
from lrf.protocols import Source
from lrf.stages.context import StageContext
from lrf.stages.fault_log import FaultLog
from lrf.stages.feeding import Feeder, FinishedSample
from lrf.stages.progress import Progress, budget_use, waiting
from lrf.stages.reading import missing_candidates, prompt_template
from lrf.stages.sample.rows import left_out, row_of
from lrf.store.files import dump
from lrf.store.journal import Journal
from lrf.store.spool import Spool
from lrf.types import Sample

if TYPE_CHECKING:
    from lrf.config import ComponentBlock


@dataclass(slots=True)
class Sampling:
    """Draws candidates for all samples. ``of_samples`` is for progress."""

    context: StageContext
    calls: SamplerCalls
    keys: SampleKeys
    template: Template
    stage: str
    of_samples: int
    feeder: Feeder = field(init=False)

    def __post_init__(self) -> None:
        calls_each = self.keys.n // self.calls.sampler.per_call
        self.feeder = Feeder(
            self.context,
            Spool(self.calls.journal),
            self.stage,
            self.calls,
            calls_each,
            self._row,
            self.drain,
            self._report,
        )

    @classmethod
    def of(cls, context: StageContext, block: ComponentBlock, journal: Journal, stage: str, of_samples: int) -> Self:
        """With the sampler of this block, whose rows are kept under ``stage``. Blocks: a sampler may load a model."""
        pipeline = context.pipeline

        ledger, price = BudgetLedger(budget_of(pipeline)), prices_of(pipeline).get(SAMPLING)
        sampler = sampler_of(pipeline, executor_of(pipeline))
        calls = SamplerCalls(SAMPLING, sampler, journal, ledger, context.observers.tell_call, price, rates_of(block))
        calls.server.on_fault = FaultLog(context.log)
        return cls(context, calls, block.generation, prompt_template(pipeline), stage, of_samples)

    @property
    def ledger(self) -> BudgetLedger:
        return self.calls.ledger

    @property
    def fatal(self) -> LrfError | None:
        """The first reason to stop, or None."""
        return self.calls.stop.reason

    async def run(self, source: Source) -> None:
        """Take all samples of the source through the sampler."""
        await self.feeder.feed(source)

    def drain(self, reason: LrfError | None = None) -> None:
        """Stop: calls in flight are finished and kept, no other begins. The first reason given counts."""
        self.calls.drain(reason)

    def _report(self) -> None:
        total, done = self.ledger.total(), self.feeder.done
        progress = Progress(
            stage="sample",
            samples=done["samples"],
            of_samples=self.of_samples,
            candidates=done["candidates"],
            left_out=done["left_out"],
            calls=total.calls,
            reused=total.reused,
            retried=sum(self.calls.retried.values()),
            in_flight=self.calls.in_flight,
            tokens=total.prompt_tokens + total.completion_tokens,
            budget=budget_use(self.ledger),
            waits=waiting(self.calls.waits),
        )
        self.context.report(progress.as_json())

    async def _row(self, sample: Sample, position: int) -> FinishedSample:
        row = await self._drawn(sample, position)
        out, transient = row["left_out"], False
        if out is not None:
            transient = out.pop("transient")
            self.context.log.info("left out", sample=sample.id, reason=out["reason"])
        counts: Mapping[str, int] = {"candidates": len(row["candidates"]), "left_out": int(out is not None)}
        return FinishedSample(dump(row), counts, transient)

    async def _drawn(self, sample: Sample, position: int) -> dict[str, Any]:
        """The row of ``candidates.jsonl`` for a sample."""
        try:
            generation = missing_candidates(self.context.pipeline, sample, self.template)
            replies = await self.calls.draw(generation, sample.id, position)
        except FATAL as error:
            self.drain(error)
            raise self.fatal or error from None
        except UnscorableError as error:
            return left_out(sample, error.reason, error.detail, transient=error.transient or error.refused)
        except JudgeError as error:
            return left_out(sample, error.reason, str(error), transient=True)
        except Exception as error:  # of a plugin, or of the machine: it ends as data, too
            fault = fault_of("sample", self.calls.sampler, error, Reason.SAMPLER_ERROR)
            self.calls.server.on_fault(fault)
            return left_out(sample, fault.reason, fault.detail, transient=fault.transient)
        sampler = self.calls.sampler
        seeds = generation.seeds if sampler.capabilities.seed else None
        source = str(sampler.identity.get("model") or sampler.identity.get("type"))
        return row_of(sample, replies, seeds, source, self.keys)
