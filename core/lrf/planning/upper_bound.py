"""The most that a pipeline can ask for: the scoring engine with judges that are as talkative and as unclear as can be.

Every question is asked as often as the engine asks at most, every reply is as long as its limit allows, and each limit
is doubled as after replies that were cut off. What a judge wrote and what comes back in a later prompt (notes,
statements) has the length that the longest readable reply allows. Texts count a token a byte, which no tokenizer
exceeds; what a judge wrote is therefore made of as many bytes as it could have tokens.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf.engine.judge_calls import ATTEMPTS, Caller, JudgeCalls
from lrf.engine.passages import TIMES
from lrf.engine.worst_case import next_limit, worst_case_of
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import untrusted_text
from lrf.protocols import Index
from lrf.settings import Settings
from lrf.store.files import dump
from lrf.text.chunking import chunk_document
from lrf.text.tokenizers import DEFAULT
from lrf.types import JSON, Chunk, Document

if TYPE_CHECKING:
    from lrf.config import Block

_DENSE = "q~"  # as many tokens as bytes

MOST_STATEMENTS = 100
"""Assumed of a dimension that has no ``max_statements``."""


@dataclass(slots=True)
class UpperBound:
    """The most of one dimension. ``money`` is in units of money (see ``lrf.prices``)."""

    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    money: int = 0


@dataclass(slots=True)
class BoundCalls(JudgeCalls):
    """A judge that is never called: what it could cost is added up in ``most``, by dimension.

    ``statements``: how many statements an answer has at most, by dimension; ``assumed`` are the dimensions that
    asked for statements and are not among them.
    """

    statements: Mapping[str, int] = field(default_factory=dict)
    most: dict[str, UpperBound] = field(default_factory=lambda: defaultdict(UpperBound))
    assumed: set[str] = field(default_factory=set)
    _number: Any = field(default_factory=itertools.count)

    async def _once(self, request: Request, caller: Caller) -> Reply:
        limits = [request.max_tokens]
        while len(limits) < ATTEMPTS:
            limits.append(next_limit(limits[-1]))
        if request.expects.kind == "statements" and caller.dimension not in self.statements:
            self.assumed.add(caller.dimension)
        if request.attempt == 0:
            tries = [worst_case_of(self.judge, replace(request, max_tokens=limit)) for limit in limits]
            calls, prompt, written = (sum(numbers) for numbers in zip(*tries, strict=True))
            most = self.most[caller.dimension]
            most.calls += calls
            most.prompt_tokens += prompt
            most.reply_tokens += written
            most.money += self.price.most(prompt, written) if self.price else 0
        return self._longest(request, limits[-1], self.statements.get(caller.dimension, MOST_STATEMENTS))

    def _longest(self, request: Request, tokens: int, statements: int) -> Reply:
        """The readable reply that makes the most of what comes after it."""
        kind, reply_mode = request.expects.kind, request.reply_mode
        if kind == "verdicts":
            return Reply("")  # no reply holds them: they are asked for one by one besides
        if kind == "statements":
            texts = [f"{next(self._number)}".ljust(tokens // statements, "x") for _ in range(statements)]
            if reply_mode == "json":
                return Reply(dump({"statements": texts}))
            return Reply("".join(f"<statement>{t}</statement>" for t in texts))
        worst = self._worst_option(request)
        if reply_mode == "json":
            value = instance(request.schema or {})
            return Reply(dump({**value, "verdict": worst[2:-2]} if kind == "verdict" else value))
        if not request.options:
            return Reply((f"{next(self._number)}" + _DENSE * tokens)[:tokens])
        weights = {option: 1 + 0.01 * (option == worst) for option in request.options}
        total = sum(weights.values())
        return Reply(
            worst, probabilities={o: w / total for o, w in weights.items()} if reply_mode == "logprobs" else None
        )

    def _worst_option(self, request: Request) -> str:
        """The mark after which most is asked: of the least support, since that may be looked at again."""
        labels: Mapping[str, float] = getattr(request.expects, "labels", {})
        options = [f"[[{label}]]" for label in sorted(labels, key=lambda label: labels[label])] or request.options
        shown = untrusted_text(request.prompt).casefold()
        return next((o for o in options if o.casefold() not in shown), options[0]) if options else ""


def instance(schema: Mapping[str, JSON]) -> JSON:
    """A value that satisfies a schema of the kinds that expectations use."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: instance(part) for name, part in schema.get("properties", {}).items()}
    return {"string": "Analysis.", "array": []}.get(schema.get("type", ""), schema.get("minimum", 0))


def chunks_found(settings: Settings) -> int:
    """Chunks a query of a retriever with these settings."""
    return int(getattr(settings, "top_k", 5))


def chunks_cut(documents: Sequence[Document], settings: Settings) -> list[Chunk]:
    """The documents in the chunks that a retriever with these settings makes of them."""
    tokens, overlap = getattr(settings, "chunk_tokens", 128), getattr(settings, "chunk_overlap", 0)
    tokenizer = getattr(settings, "tokenizer", DEFAULT)
    cut = (chunk_document(d, tokens, overlap=overlap, whole_sentences=True, tokenizer=tokenizer) for d in documents)
    return [chunk for chunks in cut for chunk in chunks]


@dataclass(frozen=True, slots=True)
class BoundRetriever:
    """Finds the longest chunks of the documents, as many as are asked for."""

    settings: Settings

    async def index(self, documents: Sequence[Document]) -> Index:
        return _BoundIndex(await asyncio.to_thread(chunks_cut, documents, self.settings), chunks_found(self.settings))

    async def aclose(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _BoundIndex:
    chunks: Sequence[Chunk]
    top_k: int

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        by_length = sorted(range(len(self.chunks)), key=lambda i: -len(self.chunks[i].text.encode("utf-8", "replace")))
        longest = [self.chunks[i] for i in sorted(by_length[: top_k or self.top_k])]
        return [longest for _ in queries]

    async def aclose(self) -> None:
        return None


def longest_around(documents: Sequence[Document], chunks: Sequence[Chunk]) -> list[Chunk]:
    """As many passages as there are chunks, each with as many bytes as any chunk with what stands around it.

    ``chunks`` hold the longest of all in bytes, and none has more characters than that one has bytes.
    """
    width = TIMES * max((len(c.text.encode("utf-8", "replace")) for c in chunks), default=0)
    passages = [_heaviest(document, width) for document in documents if document.text]
    heaviest = max(passages, key=lambda c: len(c.text.encode("utf-8", "replace")), default=None)
    return [] if heaviest is None else [heaviest] * len(chunks)


def _heaviest(document: Document, width: int) -> Chunk:
    """The piece of so many characters (or the whole document) that has most bytes."""
    points = np.frombuffer(document.text.encode("utf-32-le", "replace"), dtype=np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    before = np.concatenate(([0], np.cumsum(sizes)))
    width = min(width, len(points))
    start = int(np.argmax(before[width:] - before[: len(before) - width]))
    return Chunk(document.id, start, start + width, document.text[start : start + width])


def most_statements(dimensions: Sequence[Block]) -> dict[str, int]:
    """The ``max_statements`` of the dimensions that have one."""
    found = {b.name: getattr(b.settings, "max_statements", None) for b in dimensions}
    return {name: n for name, n in found.items() if isinstance(n, int)}
