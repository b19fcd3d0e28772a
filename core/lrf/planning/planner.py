"""Making a plan: the engines that count, the samples they go through, and the figures that come of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lrf.assemble import check_reply_modes
from lrf.build import aggregator_of, dimensions_of, embedders_of, judges_of, prices_of, retrievers_of, source_of
from lrf.config.prices import SAMPLING, read_prices
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension
from lrf.engine.rescoring import RescoringRounds
from lrf.http.settings import unset_variables
from lrf.planning.evidence import BoundRetriever, ExpectedRetriever, exact_retriever, kept_embed, longest_around
from lrf.planning.expected import ExpectedCalls, ExpectedCounts, Tally
from lrf.planning.packed import BoundPackedCalls, ExpectedPackedCalls
from lrf.planning.plan import Estimate, Plan
from lrf.planning.rollouts import plan_rollouts
from lrf.planning.sampling import plan_sampling
from lrf.planning.upper_bound import ASSUMED_STATEMENTS, BoundCalls, UpperBound
from lrf.prices import amount
from lrf.protocols import Context, EmbedKind, LimitsStatements, ListsChunks, Retriever, SpreadsSamples
from lrf.stages.reading import good_samples
from lrf.stages.score.calibration import calibration_samples
from lrf.stages.score.rescore import rounds_of
from lrf.store.files import read_json
from lrf.store.journal import Journal
from lrf.store.kept import KeptReplies
from lrf.text.chunking import count_tokens
from lrf.types import BadRow, Candidate, Judgement, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.protocols import Vectors
    from lrf.stages.data import DataResult
    from lrf.stages.run_dir import RunDir


BOUND_SAMPLES = 50
"""Of how many samples the upper bound is taken where it is scaled: each is a hundred statements an answer."""


class Planner:
    """The components of a pipeline inside two engines that call no server.

    Raises what making the components raises, and :class:`lrf.errors.RunError` for a journal that can't be read.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        run: RunDir | None,
        priced_samples: int,
        counted: DataResult | None = None,
        *,
        bound: bool = True,
    ) -> None:
        self.plan = Plan()
        self._counted = counted
        self._pipeline, self._run, self._priced_samples = pipeline, run, priced_samples
        self._prices = prices_of(pipeline)
        self._judges = judges_of(pipeline)
        self._embedders = embedders_of(pipeline)
        self._retrievers = retrievers_of(pipeline, dict.fromkeys(self._embedders, _no_vectors))
        self._kept = KeptReplies(run.journal if run else None, pipeline.cache)
        self._sampling = plan_sampling(pipeline, self._kept)
        self._rollouts = plan_rollouts(pipeline)
        self._writing = self._rollouts or self._sampling
        self._tally = Tally(self._kept)
        dimensions = dimensions_of(pipeline)
        check_reply_modes(dimensions, self._judges)
        self._journal = Journal()  # an engine has one; nothing is written to it
        self._bounds: dict[str, BoundCalls] = {}
        makers = [self._expecting, *([self._bounding] if bound else [])]
        self._engines = [make(dimensions) for make in makers] if dimensions else []

    # --- the engines -------------------------------------------------------------------------------------------

    def _expecting(self, dimensions: Sequence[NamedDimension]) -> Engine:
        ledger, seed = BudgetLedger(), self._pipeline.seed
        judges = {
            name: (ExpectedPackedCalls if judge.capabilities.questions > 1 else ExpectedCalls)(
                name, judge, self._journal, ledger, seed, price=self._prices.get(name), tally=self._tally
            )
            for name, judge in self._judges.items()
        }
        embed = {name: kept_embed(embedder, self._kept) for name, embedder in self._embedders.items()}
        retrievers = {}
        for name, retriever in self._retrievers.items():
            embedder = self._pipeline.retrievers[name].needs.get("embedder")
            exact = exact_retriever(retriever, embed[embedder] if embedder else None, self._kept)
            retrievers[name] = ExpectedRetriever(retriever, exact, self._to_embed if embedder else lambda _: None)
        return self._engine(dimensions, judges, retrievers)

    def _bounding(self, dimensions: Sequence[NamedDimension]) -> Engine:
        limits = {d.name: d.dimension.max_statements for d in dimensions if isinstance(d.dimension, LimitsStatements)}
        self._bounds = {
            name: (BoundPackedCalls if judge.capabilities.questions > 1 else BoundCalls)(
                name, judge, self._journal, BudgetLedger(), price=self._prices.get(name), statements=limits
            )
            for name, judge in self._judges.items()
        }
        self.plan.max_statements = dict(limits)
        self.plan.unlisted_retrievers = [n for n, r in self._retrievers.items() if not isinstance(r, ListsChunks)]
        retrievers = {name: BoundRetriever(retriever) for name, retriever in self._retrievers.items()}
        return self._engine(dimensions, self._bounds, retrievers, around=longest_around)

    def _engine(
        self,
        dimensions: Sequence[NamedDimension],
        judges: Mapping[str, Any],
        retrievers: Mapping[str, Retriever],
        **more: Any,
    ) -> Engine:
        return Engine(
            dimensions=[d if d.judge or d.retriever else replace(d, dimension=_Free()) for d in dimensions],
            judges=judges,
            retrievers=retrievers,
            embedders={},
            aggregator=aggregator_of(self._pipeline),
            journal=self._journal,
            ledger=BudgetLedger(),
            observers=Observers(None, lambda *_: None),
            rounds=rounds_of(self._run) if self._run else RescoringRounds(),
            **more,
        )

    def _to_embed(self, texts: int) -> None:
        self.plan.texts_to_embed += texts

    # --- the samples -------------------------------------------------------------------------------------------

    async def walk(self) -> None:
        """Count the data, unless it is counted already, and go through some of the samples in full."""
        await self._calibrate()
        plan, counted = self.plan, self._counted
        if counted is None:
            await asyncio.to_thread(self._count)
        else:
            plan.samples, plan.bad_rows, plan.candidates = counted.samples, counted.bad_rows, counted.candidates
        rows, step = await asyncio.to_thread(self._rows)
        missing = 0
        while plan.priced_samples < self._priced_samples and (sample := await asyncio.to_thread(next, rows, None)):
            await self._price(sample, plan.priced_samples * step)
            missing += self._missing(sample)
        if counted is not None and plan.priced_samples:
            plan.to_sample = round(missing * plan.samples / plan.priced_samples)
            plan.candidates += plan.to_sample

    def _count(self) -> None:
        """Count all rows of the data. Blocks."""
        plan = self.plan
        for row in source_of(self._pipeline).read():
            if isinstance(row, BadRow):
                plan.bad_rows += 1
                continue
            missing = self._missing(row)
            plan.to_sample += missing
            plan.candidates += len(row.candidates) + missing
            plan.samples += 1

    def _missing(self, sample: Sample) -> int:
        return self._writing.missing(sample) if self._writing else 0

    def _rows(self) -> tuple[Iterator[Sample], int]:
        """The samples to go through, evenly spaced.

        A run begins with the first samples, so that of these alone more would be paid than of the others. Where it has
        begun, those that are gone through are therefore spread over the data. Blocks.
        """
        source, samples, most = source_of(self._pipeline), self.plan.samples, self._priced_samples
        if not self._kept:
            return good_samples(source), 1
        step = max(1, -(-samples // most))
        spread = source.spread(most) if step > 2 and isinstance(source, SpreadsSamples) else None
        return spread or itertools.islice(good_samples(source), 0, None, step), step

    async def _price(self, sample: Sample, position: int) -> None:
        plan = self.plan
        tokens = await asyncio.to_thread(lambda: sum(count_tokens(d.text) for d in sample.documents))
        plan.document_tokens += tokens
        plan.longest_document_tokens = max(plan.longest_document_tokens, tokens)
        filled = await asyncio.to_thread(self._writing.add, sample) if self._writing else (sample, sample)
        every = max(1, self._priced_samples // BOUND_SAMPLES) if plan.samples > self._priced_samples else 1
        engines = self._engines if plan.priced_samples % every == 0 else self._engines[:1]
        for engine, of_engine in zip(engines, filled, strict=False):
            await engine.score(of_engine, position)
        plan.priced_samples += 1
        plan.bound_samples += len(engines) == len(self._engines)

    async def _calibrate(self) -> None:
        """The calibration set, scored at both ends of a run."""
        wanted = self._pipeline.calibration
        if wanted is None or not self._engines:
            return
        samples = await asyncio.to_thread(calibration_samples, wanted.path)
        self.plan.calibration_samples = len(samples)
        kept = read_json(self._run.path / "calibration.json") if self._run else None
        take = kept["take"] if isinstance(kept, dict) and isinstance(kept.get("take"), int) else 1
        for engine, number, sample in itertools.product(self._engines, (take, take + 1), samples):
            await engine.score(sample, take=number)

    # --- the figures -------------------------------------------------------------------------------------------

    def finish(self) -> Plan:
        """The plan of what was gone through, scaled to all samples."""
        plan = self.plan
        plan.statements = self._tally.statements
        asking = [block.name for block in self._pipeline.dimensions if block.judges]
        for name in dict.fromkeys((*asking, *self._tally.dimensions)):
            bounds = [bound.upper_bounds[name] for bound in self._bounds.values() if name in bound.upper_bounds]
            plan.dimensions[name] = _estimate(self._tally.dimensions.get(name, ExpectedCounts()), bounds)
        if self._sampling:
            sampling = _estimate(self._sampling.counts, [self._sampling.upper_bound])
            plan.dimensions = {SAMPLING: sampling, **plan.dimensions}
        plan.assumed_statements = sorted({name for bound in self._bounds.values() for name in bound.assumed})
        plan.max_statements |= dict.fromkeys(plan.assumed_statements, ASSUMED_STATEMENTS)
        sampled_and_scored = self._writing is not None and bool(self._engines)
        plan.bound_holds = not (plan.assumed_statements or plan.unlisted_retrievers or sampled_and_scored)
        plan.missing_keys = self._missing_keys()
        slots = [judge.max_concurrency for judge in self._judges.values()]
        plan.slots = max(slots + ([self._sampling.sampler.max_concurrency] if self._sampling else []), default=0)
        self._add_prices()
        self._scale()
        return plan

    def _missing_keys(self) -> dict[str, str]:
        pipeline = self._pipeline
        blocks = {f"judges.{name}": pipeline.judges[name] for name in self._judges}
        blocks |= {f"embedders.{name}": pipeline.embedders[name] for name in self._embedders}
        blocks |= {"sample": pipeline.sample} if pipeline.sample else {}
        unset = {name: unset_variables(block.settings) for name, block in blocks.items()}
        return {name: ", ".join(variables) for name, variables in unset.items() if variables}

    def _add_prices(self) -> None:
        plan, pipeline, prices = self.plan, self._pipeline, self._prices
        settings = {name: pipeline.judges[name].settings for name in self._judges}
        if pipeline.sample:
            settings[SAMPLING] = pipeline.sample.settings
        models = {name: s.model_reference for name, s in settings.items()}
        plan.prices = read_prices(pipeline.prices).version
        plan.unpriced = {name: m.name for name, m in models.items() if m and name not in prices}
        plan.batches = [name for name, model in models.items() if model and model.batch]
        currencies = {prices[name].currency for name in settings if name in prices}
        plan.currency = currencies.pop() if len(currencies) == 1 else None
        if currencies:  # amounts of several currencies can't be added up
            for estimate in plan.dimensions.values():
                estimate.price = estimate.left_price = estimate.bound_price = None

    def _scale(self) -> None:
        plan, visits = self.plan, self._visits()
        if not plan.priced_samples or visits == plan.samples <= plan.priced_samples:
            return
        plan.bound_holds = False
        factor = visits / plan.priced_samples
        plan.document_tokens = round(plan.document_tokens * plan.samples / plan.priced_samples)
        plan.statements = round(plan.statements * factor)
        plan.texts_to_embed = round(plan.texts_to_embed * factor)
        calibrated = 2 * plan.calibration_samples
        scored = (visits + calibrated) / (plan.priced_samples + calibrated)
        bound = (visits + calibrated) / (plan.bound_samples + calibrated)
        for name, estimate in plan.dimensions.items():
            estimate.scale(*((factor, factor) if name == SAMPLING else (scored, bound)))

    def _visits(self) -> int:
        """How many samples are scored: all of the data, or those that a trainer writes answers to, each visit."""
        plan = self.plan
        if self._rollouts is None or not plan.samples:
            return plan.samples
        visits = self._rollouts.visits(plan.samples)
        plan.written_by = self._rollouts.trainer
        plan.to_sample = plan.candidates = round(plan.to_sample * visits / plan.samples)
        return visits

    async def aclose(self) -> None:
        """Close all components."""
        for engine in self._engines:
            await engine.aclose()  # its judges, too
        sampler = [self._sampling.sampler] if self._sampling else []
        components: tuple[Any, ...] = (*self._retrievers.values(), *self._embedders.values(), *sampler)
        for component in components:
            await component.aclose()
        self._kept.close()
        await asyncio.to_thread(self._journal.close)


class _Free:
    """Stands for a dimension that asks for nothing: a reward model in this process isn't loaded for a plan."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(5.0)


async def _no_vectors(texts: Sequence[str], kind: EmbedKind) -> Vectors:
    raise LookupError("a plan embeds nothing")


def _estimate(counts: ExpectedCounts, bounds: Sequence[UpperBound]) -> Estimate:
    priced = not counts.unpriced
    return Estimate(
        calls=counts.calls,
        prompt_tokens=counts.prompt_tokens,
        shared_tokens=counts.shared_tokens,
        reply_tokens=counts.reply_tokens,
        price=amount(counts.money) if priced else None,
        kept_calls=counts.kept,
        left_calls=counts.calls - counts.kept,
        left_price=amount(counts.left_money) if priced else None,
        bound_calls=sum(bound.calls for bound in bounds),
        bound_prompt_tokens=sum(bound.prompt_tokens for bound in bounds),
        bound_reply_tokens=sum(bound.reply_tokens for bound in bounds),
        bound_price=amount(sum(bound.money for bound in bounds)) if priced else None,
    )
