"""What a pipeline will ask for, before it asks: the scoring engine itself, with a judge that only counts.

The planning judge answers every request with a reply of the expected form, so whatever a dimension does (a third
party's too) is counted: calls saved by equal requests, notes shared by candidates, prompts as they will really be.
Assumed are the number of statements (one for each sentence of the answer) and the length of replies. What it can come
to at most is counted by a second engine (``lrf.planning.upper_bound``), where nothing is assumed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lrf.build import build, engine_of, prices_of, source_of
from lrf.config.prices import SAMPLING, read_prices
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, NamedDimension
from lrf.engine.observers import Observers
from lrf.planning.sampling import plan_sampling
from lrf.planning.upper_bound import (
    MOST_STATEMENTS,
    BoundCalls,
    BoundRetriever,
    chunks_cut,
    chunks_found,
    instance,
    longest_around,
    most_statements,
)
from lrf.prices import Price, amount
from lrf.prompting.expectations import NO_STATEMENTS
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities, Context, Index, Judge
from lrf.settings import Settings
from lrf.stages.score.calibration import calibration_samples
from lrf.store.files import dump
from lrf.store.journal import Journal, digest
from lrf.text.chunking import count_tokens
from lrf.types import JSON, BadRow, Candidate, Chunk, Document, Judgement, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline

PRICED_SAMPLES = 200
REPLY_TOKENS = {"rating": 180, "verdict": 60, "verdicts": 480, "choice": 60, "text": 120}
TOKENS_A_STATEMENT = 25
_SENTENCE = re.compile(r"[^.!?。！？\n]{4,}[.!?。！？\n]?")


@dataclass(slots=True)
class Estimate:
    """Of one dimension: what is expected, and what it can come to at most.

    ``shared_tokens`` of the prompts' tokens stand at the beginning of an earlier prompt of the same judge, so that a
    prefix cache saves them. ``price`` is in the prices' currency, shared tokens as cached ones; None without a price.
    """

    calls: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    reply_tokens: int = 0
    price: float | None = None
    most_calls: int = 0
    most_prompt_tokens: int = 0
    most_reply_tokens: int = 0
    most_price: float | None = None


@dataclass(slots=True)
class Plan:
    """What a pipeline will do and need.

    ``priced_samples`` samples were gone through in full; the estimates are of these, scaled to all. The most holds
    (``bound_holds``) where all were gone through and every dimension that splits answers has a ``max_statements``
    (``most_statements`` an answer, by dimension; else a hundred is assumed). ``to_sample`` of the candidates are to be
    sampled first: the most of scoring these is an estimate, too. The ``calibration_samples``, each scored twice, are in
    the estimates.
    """

    samples: int = 0
    bad_rows: int = 0
    candidates: int = 0
    to_sample: int = 0
    priced_samples: int = 0
    calibration_samples: int = 0
    document_tokens: int = 0
    longest_document_tokens: int = 0
    statements: int = 0
    most_statements: dict[str, int] = field(default_factory=dict)
    bound_holds: bool = True
    embedded_texts: int = 0
    currency: str | None = None
    prices: str = ""
    unpriced: dict[str, str] = field(default_factory=dict)
    batches: list[str] = field(default_factory=list)
    dimensions: dict[str, Estimate] = field(default_factory=dict)

    def total(self) -> Estimate:
        """All dimensions together. Without a price of each there is none of all."""
        parts = [asdict(estimate) for estimate in self.dimensions.values()]
        sums: dict[str, Any] = {
            name: None if any(part[name] is None for part in parts) else sum(part[name] for part in parts)
            for name in asdict(Estimate())
        }
        return Estimate(**sums)

    def as_json(self) -> Mapping[str, JSON]:
        return {**asdict(self), "total": asdict(self.total())}


class _PlanningJudge:
    """Replies in the right form, at the assumed length, and counts."""

    max_concurrency = 64
    request_timeout_s = 60.0

    def __init__(self, real: Judge, plan: Plan) -> None:
        self.identity = real.identity
        self.capabilities: Capabilities = real.capabilities
        self._plan = plan

    async def complete(self, request: Request) -> Reply:
        kind, reply_mode = request.expects.kind, request.reply_mode
        text, tokens = _mark(request), REPLY_TOKENS.get(kind, 100)
        if kind == "statements":
            answer = next((s.text for s in reversed(request.prompt) if not s.trusted), "")
            found = [s.strip() for s in _SENTENCE.findall(answer)]
            self._plan.statements += len(found)
            tokens = TOKENS_A_STATEMENT * max(1, len(found))
            text = "\n".join(f"<statement>{s}</statement>" for s in found) or NO_STATEMENTS
            if reply_mode == "json":
                text = dump({"statements": found})
        elif kind == "text":
            text = "What the judge will note. " * 20
        probabilities = dict.fromkeys(request.options, 1 / len(request.options)) if reply_mode == "logprobs" else None
        usage = Usage(count_tokens(prompt_text(request.prompt)), min(tokens, request.max_tokens))
        return Reply(text, "stop", usage, probabilities)

    async def aclose(self) -> None:
        return None


def _mark(request: Request) -> str:
    if request.reply_mode == "json" and request.schema:
        return dump(instance(request.schema))
    return f"Analysis. {request.options[len(request.options) // 2] if request.options else ''}"


class _PlanningRetriever:
    """Gives chunks drawn by a hash of the query as evidence: the right length, at no cost."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self._plan = plan
        self._settings = settings

    async def index(self, documents: Sequence[Document]) -> Index:
        chunks = await asyncio.to_thread(chunks_cut, documents, self._settings)
        embeds = "embedder" not in self._settings.without
        self._plan.embedded_texts += len(chunks) if embeds else 0
        return _PlanningIndex(self._plan, chunks, chunks_found(self._settings), embeds)

    async def aclose(self) -> None:
        return None


@dataclass(slots=True)
class _PlanningIndex:
    plan: Plan
    chunks: list[Chunk]
    top_k: int
    embeds: bool

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        self.plan.embedded_texts += len(queries) if self.embeds else 0
        wanted = min(top_k or self.top_k, len(self.chunks))

        def drawn(query: str) -> list[Chunk]:
            places = random.Random(digest(query)).sample(range(len(self.chunks)), wanted)
            return [self.chunks[place] for place in sorted(places)]

        return [drawn(query) for query in queries]

    async def aclose(self) -> None:
        return None


async def plan_pipeline(pipeline: Pipeline, *, priced_samples: int = PRICED_SAMPLES) -> Plan:
    """The plan of a pipeline's scoring. Reads the data; calls nobody. Raises what building the pipeline raises."""
    plan = Plan()
    real = {
        name: build(pipeline.judges[name]) for name in dict.fromkeys(n for b in pipeline.dimensions for n in b.judges)
    }
    sampling = plan_sampling(pipeline, Estimate())
    journal = Journal()
    try:
        engines: list[Engine] = []
        bounds: list[BoundCalls] = []
        if pipeline.dimensions:
            bounding, bounds = _bounding_engine(pipeline, plan, real, journal)
            engines = [_planning_engine(pipeline, plan, real, journal), bounding]
        if pipeline.calibration and engines:
            calibration = await asyncio.to_thread(calibration_samples, pipeline.calibration.path)
            plan.calibration_samples = len(calibration)
            for take, engine, calibrating in itertools.product((1, 2), engines, calibration):
                await engine.score(calibrating, take=take)
        rows = enumerate(source_of(pipeline).read())
        while (entry := await asyncio.to_thread(next, rows, None)) is not None:
            position, sample = entry
            if isinstance(sample, BadRow):
                plan.bad_rows += 1
                continue
            plan.samples += 1
            missing = sampling.missing(sample) if sampling else 0
            plan.to_sample += missing
            plan.candidates += len(sample.candidates) + missing
            if plan.priced_samples < priced_samples:
                tokens = await asyncio.to_thread(_document_tokens, sample)
                plan.document_tokens += tokens
                plan.longest_document_tokens = max(plan.longest_document_tokens, tokens)
                expected, longest = await asyncio.to_thread(sampling.add, sample) if sampling else (sample, sample)
                for engine, filled in zip(engines, (expected, longest), strict=False):
                    await engine.score(filled, position)
                plan.priced_samples += 1
        if engines:
            await engines[0].aclose()
            judges = engines[0].judges
            prices = {(b.name, judges[n].identity): judges[n].price for b in pipeline.dimensions for n in b.judges}
            plan.dimensions = await asyncio.to_thread(_expected, pipeline, journal, prices)
            _add_most(plan, bounds)
        if sampling:
            plan.dimensions = {SAMPLING: sampling.estimate, **plan.dimensions}
            plan.bound_holds = plan.bound_holds and not engines
    finally:
        for made in (*real.values(), *([sampling.sampler] if sampling else [])):
            await made.aclose()
        await asyncio.to_thread(journal.close)
    _name_prices(plan, pipeline, real)
    _scale(plan)
    return plan


def _planning_engine(pipeline: Pipeline, plan: Plan, real: Mapping[str, Judge], journal: Journal) -> Engine:
    judges = {name: _PlanningJudge(judge, plan) for name, judge in real.items()}
    retrievers = {name: _PlanningRetriever(plan, settings) for name, settings in _retrievers(pipeline).items()}
    observers = Observers(None, lambda *_: None)
    engine = engine_of(pipeline, journal, observers, judges=judges, retrievers=retrievers, budget=False)
    engine.dimensions = [_Free.in_place_of(named) for named in engine.dimensions]
    return engine


class _Free:
    """Stands for a dimension that asks for nothing: a reward model in this process isn't loaded for a plan."""

    @classmethod
    def in_place_of(cls, named: NamedDimension) -> NamedDimension:
        return named if named.judge or named.retriever else replace(named, dimension=cls())

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(5.0)


def _bounding_engine(
    pipeline: Pipeline, plan: Plan, real: Mapping[str, Judge], journal: Journal
) -> tuple[Engine, list[BoundCalls]]:
    """An engine that adds up the most that each judge could be asked for. It never comes to the journal."""
    plan.most_statements = most_statements(pipeline.dimensions)
    prices = prices_of(pipeline)
    bounds = [
        BoundCalls(name, judge, journal, BudgetLedger(), price=prices.get(name), statements=plan.most_statements)
        for name, judge in real.items()
    ]
    retrievers = {name: BoundRetriever(settings) for name, settings in _retrievers(pipeline).items()}
    observers = Observers(None, lambda *_: None)
    engine = engine_of(pipeline, journal, observers, judges=real, retrievers=retrievers, budget=False)
    engine.judges = {bound.name: bound for bound in bounds}
    engine.around = longest_around
    engine.dimensions = [_Free.in_place_of(named) for named in engine.dimensions]
    return engine, bounds


def _retrievers(pipeline: Pipeline) -> dict[str, Settings]:
    """The settings of each retriever that is asked."""
    names = dict.fromkeys(b.needs["retriever"] for b in pipeline.dimensions if "retriever" in b.needs)
    return {name: pipeline.retrievers[name].settings for name in names}


def _document_tokens(sample: Sample) -> int:
    return sum(count_tokens(d.text) for d in sample.documents)


def _expected(
    pipeline: Pipeline, journal: Journal, prices: Mapping[tuple[str, str], Price | None]
) -> dict[str, Estimate]:
    """What the planning judges were asked for, in the order in which they were asked, by dimension.

    ``prices`` by dimension and judge's identity: the same model may be a judge twice, once by batches.
    """
    found = {b.name: Estimate() for b in pipeline.dimensions if b.judges}
    money = Counter[str]()
    unpriced = set()
    shared = _Shared(journal)
    query = (
        "SELECT rowid, judge, dimension, prompt, prompt_tokens, completion_tokens FROM replies WHERE rowid > ?"
        " ORDER BY rowid LIMIT 1000"
    )
    for _, judge, dimension, prompt, prompt_tokens, reply_tokens in _all(journal, query):
        again = min(shared.tokens(judge, prompt), prompt_tokens)
        estimate = found.setdefault(dimension, Estimate())
        estimate.calls += 1
        estimate.prompt_tokens += prompt_tokens
        estimate.shared_tokens += again
        estimate.reply_tokens += reply_tokens
        price = prices[dimension, judge]
        if price is None:
            unpriced.add(dimension)
        else:
            money[dimension] += price.cost(prompt_tokens, reply_tokens, again if again >= price.cached_from else 0)
    for dimension, estimate in found.items():
        estimate.price = None if dimension in unpriced else amount(money[dimension])
    return found


def _all(journal: Journal, query: str) -> Iterator[Sequence[Any]]:
    """The rows of a query that takes the number of the last row and gives some more, each with its number first."""

    def after(last: int) -> Callable[[sqlite3.Connection], list[Any]]:
        return lambda c: c.execute(query, (last,)).fetchall()

    last = 0
    while part := journal.do(after(last)).result():
        yield from part
        last = part[-1][0]


class _Shared:
    """How much of a prompt's beginning stood at the beginning of an earlier one: whole segments."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._nodes: dict[tuple[int, bytes], int] = {}
        self._roots: dict[str, int] = {}
        self._sizes: dict[bytes, int] = {}

    def tokens(self, judge: str, prompt: bytes) -> int:
        """Of this prompt, which from now on is an earlier one."""
        node = self._roots.setdefault(judge, -1 - len(self._roots))
        tokens, known = 0, True
        for i in range(0, len(prompt), 16):
            step = (node, prompt[i : i + 16])
            known = known and step in self._nodes
            tokens += self._size(step[1]) if known else 0
            node = self._nodes.setdefault(step, len(self._nodes))
        return tokens

    def _size(self, segment: bytes) -> int:
        if segment not in self._sizes:
            query = "SELECT text FROM segments WHERE hash = ?"
            row = self._journal.do(lambda c: c.execute(query, (segment,)).fetchone()).result()
            self._sizes[segment] = count_tokens(row[0])
        return self._sizes[segment]


def _add_most(plan: Plan, bounds: Sequence[BoundCalls]) -> None:
    assumed = {dimension for bound in bounds for dimension in bound.assumed}
    plan.most_statements |= dict.fromkeys(assumed, MOST_STATEMENTS)
    plan.bound_holds = not assumed
    for dimension, estimate in plan.dimensions.items():
        money = 0
        for bound in bounds:
            if dimension in bound.most:
                most = bound.most[dimension]
                estimate.most_calls += most.calls
                estimate.most_prompt_tokens += most.prompt_tokens
                estimate.most_reply_tokens += most.reply_tokens
                money += most.money
        estimate.most_price = None if estimate.price is None else amount(money)


def _name_prices(plan: Plan, pipeline: Pipeline, real: Mapping[str, Judge]) -> None:
    prices = prices_of(pipeline)
    settings = {name: pipeline.judges[name].settings for name in real}
    if pipeline.sample:
        settings[SAMPLING] = pipeline.sample.settings
    plan.prices = read_prices(pipeline.prices).version
    plan.unpriced = {n: str(getattr(s, "model", "no model")) for n, s in settings.items() if n not in prices}
    plan.batches = [name for name, s in settings.items() if getattr(s, "batch", False)]
    currencies = {prices[name].currency for name in settings if name in prices}
    plan.currency = currencies.pop() if len(currencies) == 1 else None
    if currencies:  # sums of several currencies say nothing
        for estimate in plan.dimensions.values():
            estimate.price = estimate.most_price = None


def _scale(plan: Plan) -> None:
    if plan.priced_samples and plan.samples > plan.priced_samples:
        plan.bound_holds = False
        factor = plan.samples / plan.priced_samples
        for name in ("document_tokens", "statements", "embedded_texts"):
            setattr(plan, name, round(getattr(plan, name) * factor))
        twice = 2 * plan.calibration_samples
        scored = (plan.samples + twice) / (plan.priced_samples + twice)
        for dimension, estimate in plan.dimensions.items():
            factor = plan.samples / plan.priced_samples if dimension == SAMPLING else scored
            for name, n in asdict(estimate).items():
                if n is not None:
                    setattr(estimate, name, n * factor if "price" in name else round(n * factor))
