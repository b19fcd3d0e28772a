"""What a pipeline will ask for, before it asks: the scoring engine itself, with a judge that only counts.

The planning judge answers every request with a reply of the expected form, so whatever a dimension does (a third
party's too) is counted: calls saved by equal requests, notes shared by candidates, prompts as they will really be.
Assumed are the number of statements (one for each sentence of the answer) and the length of replies.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lrf.build import build, engine_of, source_of
from lrf.chunking import chunk_document, count_tokens
from lrf.engine.observers import Observers
from lrf.protocols import Capabilities, Index, Judge
from lrf.replies import NO_STATEMENTS, Reply, Request, Usage
from lrf.store.filesystem import dump
from lrf.store.journal import Journal
from lrf.templates import prompt_text
from lrf.types import JSON, BadRow, Chunk, Document, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline

PRICED_SAMPLES = 200
REPLY_TOKENS = {"rating": 180, "verdict": 60, "verdicts": 480, "choice": 60, "text": 120}
TOKENS_A_STATEMENT = 25
EMBEDDING_CHUNK_TOKENS = 128
_SENTENCE = re.compile(r"[^.!?。！？\n]{4,}[.!?。！？\n]?")


@dataclass(slots=True)
class Estimate:
    """Of one dimension. ``most_reply_tokens`` holds when every reply is as long as it may be, asked once."""

    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    most_reply_tokens: int = 0


@dataclass(slots=True)
class Plan:
    """What a pipeline will do and need.

    ``priced_samples`` samples were gone through in full; the estimates are of these, scaled to all.
    """

    samples: int = 0
    bad_rows: int = 0
    candidates: int = 0
    priced_samples: int = 0
    document_tokens: int = 0
    longest_document_tokens: int = 0
    statements: int = 0
    embedded_texts: int = 0
    dimensions: dict[str, Estimate] = field(default_factory=dict)

    def total(self) -> Estimate:
        total = Estimate()
        for estimate in self.dimensions.values():
            for name, n in asdict(estimate).items():
                setattr(total, name, getattr(total, name) + n)
        return total

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
        kind, way = request.expects.kind, request.way
        text, tokens = f"Analysis. {_mark(request)}", REPLY_TOKENS.get(kind, 100)
        if kind == "statements":
            answer = next((s.text for s in reversed(request.prompt) if not s.trusted), "")
            found = [s.strip() for s in _SENTENCE.findall(answer)]
            self._plan.statements += len(found)
            tokens = TOKENS_A_STATEMENT * max(1, len(found))
            text = "\n".join(f"<statement>{s}</statement>" for s in found) or NO_STATEMENTS
            if way == "structured":
                text = dump({"statements": found})
        elif kind == "text":
            text = "What the judge will note. " * 20
        probabilities = dict.fromkeys(request.options, 1 / len(request.options)) if way == "expected" else None
        usage = Usage(count_tokens(prompt_text(request.prompt)), min(tokens, request.max_tokens))
        return Reply(text, "stop", usage, probabilities)

    async def aclose(self) -> None:
        return None


def _mark(request: Request) -> str:
    if request.way == "structured" and request.schema:
        return dump(_instance(request.schema))
    return request.options[len(request.options) // 2] if request.options else ""


def _instance(schema: Mapping[str, JSON]) -> JSON:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _instance(part) for name, part in schema.get("properties", {}).items()}
    return {"string": "Analysis.", "array": []}.get(schema.get("type", ""), schema.get("minimum", 0))


class _PlanningRetriever:
    """Gives the first chunks of a document as evidence for everything: the right length, at no cost."""

    def __init__(self, plan: Plan, top_k: int) -> None:
        self._plan = plan
        self._top_k = top_k

    async def index(self, documents: Sequence[Document]) -> Index:
        chunks = await asyncio.to_thread(
            lambda: [c for d in documents for c in chunk_document(d, EMBEDDING_CHUNK_TOKENS)]
        )
        self._plan.embedded_texts += len(chunks)
        return _PlanningIndex(self._plan, chunks, self._top_k)

    async def aclose(self) -> None:
        return None


@dataclass(slots=True)
class _PlanningIndex:
    plan: Plan
    chunks: list[Chunk]
    top_k: int

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        self.plan.embedded_texts += len(queries)
        return [self.chunks[: top_k or self.top_k] for _ in queries]

    async def aclose(self) -> None:
        return None


async def plan_pipeline(pipeline: Pipeline, *, priced_samples: int = PRICED_SAMPLES) -> Plan:
    """The plan of a pipeline's scoring. Reads the data; calls nobody. Raises what building the pipeline raises."""
    plan = Plan()
    needed = dict.fromkeys(name for b in pipeline.dimensions for name in b.judges)
    real = {name: build(pipeline.judges[name]) for name in needed}
    retrievers = {
        name: _PlanningRetriever(plan, getattr(pipeline.retrievers[name].settings, "top_k", 5))
        for name in dict.fromkeys(b.needs["retriever"] for b in pipeline.dimensions if "retriever" in b.needs)
    }
    journal = Journal()
    try:
        judges = {name: _PlanningJudge(judge, plan) for name, judge in real.items()}
        engine = engine_of(
            pipeline, journal, Observers(None, lambda *_: None), judges=judges, retrievers=retrievers, budget=False
        )
        rows = enumerate(source_of(pipeline).read())
        while (entry := await asyncio.to_thread(next, rows, None)) is not None:
            position, sample = entry
            if isinstance(sample, BadRow):
                plan.bad_rows += 1
                continue
            plan.samples += 1
            plan.candidates += len(sample.candidates)
            if plan.priced_samples < priced_samples:
                tokens = await asyncio.to_thread(_document_tokens, sample)
                plan.document_tokens += tokens
                plan.longest_document_tokens = max(plan.longest_document_tokens, tokens)
                if pipeline.dimensions:
                    await engine.score(sample, position)
                plan.priced_samples += 1
        await engine.aclose()
        plan.dimensions = await asyncio.to_thread(_by_dimension, journal)
    finally:
        for judge in real.values():
            await judge.aclose()
        await asyncio.to_thread(journal.close)
    _scale(plan)
    return plan


def _document_tokens(sample: Sample) -> int:
    return sum(count_tokens(d.text) for d in sample.documents)


def _by_dimension(journal: Journal) -> dict[str, Estimate]:
    query = (
        "SELECT dimension, count(*), total(prompt_tokens), total(completion_tokens), total(max_tokens)"
        " FROM replies GROUP BY dimension ORDER BY dimension"
    )
    rows = journal.do(lambda c: c.execute(query).fetchall()).result()
    return {name: Estimate(*(int(n) for n in numbers)) for name, *numbers in rows}


def _scale(plan: Plan) -> None:
    if plan.priced_samples and plan.samples > plan.priced_samples:
        factor = plan.samples / plan.priced_samples
        for name in ("document_tokens", "statements", "embedded_texts"):
            setattr(plan, name, round(getattr(plan, name) * factor))
        for estimate in plan.dimensions.values():
            for name, n in asdict(estimate).items():
                setattr(estimate, name, round(n * factor))
