"""One dimension with the real engine around it and scripted judges behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension, PanelSettings
from lrf.prompting.requests import Request
from lrf.prompting.templates import prompt_text
from lrf.protocols import Judge, Retriever
from lrf.store.journal import Journal
from lrf.text.chunking import chunk_document
from lrf.types import Chunk, Document, Judgement, Reward, Sample, Unscored
from lrf_aggregators.mean import Mean
from lrf_aggregators.settings import MeanSettings


@dataclass
class WordRetriever:
    """Finds the chunks that share most words with a query; equal ones by their place."""

    tokens: int = 16
    top_k: int = 2
    chunks: list[Chunk] = field(default_factory=list)

    async def index(self, documents: Sequence[Document]) -> WordRetriever:
        chunks = [c for d in documents for c in chunk_document(d, self.tokens, whole_sentences=True)]
        return WordRetriever(self.tokens, self.top_k, chunks)

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        return [self._best(query, top_k or self.top_k) for query in queries]

    def _best(self, query: str, top_k: int) -> list[Chunk]:
        words = _words(query)
        ranked = sorted(range(len(self.chunks)), key=lambda i: (-len(words & _words(self.chunks[i].text)), i))
        return [self.chunks[i] for i in sorted(ranked[:top_k])]

    async def aclose(self) -> None:
        return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w", text) if re.search("[一-鿿]", text) else re.findall(r"\w+", text.casefold()))


async def rewards_of(
    dimension: Any,
    judges: Judge | Mapping[str, Judge],
    sample: Sample,
    *,
    asking: PanelSettings | None = None,
    retriever: Retriever | None = None,
    journal: Journal | None = None,
    ledger: BudgetLedger | None = None,
) -> tuple[Reward, ...]:
    """The rewards of all candidates of the sample, rated by this dimension, which is called "d"."""
    named = judges if isinstance(judges, Mapping) else {"main": judges}
    kept, ledger, observers = journal or Journal(), ledger or BudgetLedger(), Observers(None, lambda *_: None)
    engine = Engine(
        dimensions=[NamedDimension("d", dimension, next(iter(named)), "r", asking or PanelSettings())],
        judges=judge_calls(named, kept, ledger, observers, seed=0),
        retrievers={"r": retriever or WordRetriever()},
        embedders={},
        aggregator=Mean(MeanSettings()),
        journal=kept,
        ledger=ledger,
        observers=observers,
    )
    try:
        return await engine.score(sample)
    finally:
        if journal is None:
            kept.close()


async def outcome_of(
    dimension: Any, judges: Judge | Mapping[str, Judge], sample: Sample, **how: Any
) -> Judgement | Unscored:
    """What became of the first candidate."""
    return (await rewards_of(dimension, judges, sample, **how))[0].judgements["d"]


async def judgement_of(dimension: Any, judges: Judge | Mapping[str, Judge], sample: Sample, **how: Any) -> Judgement:
    """The first candidate's judgement; it must have one."""
    outcome = await outcome_of(dimension, judges, sample, **how)
    assert isinstance(outcome, Judgement), outcome
    return outcome


def task_of(request: Request) -> str:
    """The prompt without its instructions and examples."""
    return re.split(r"^### ", prompt_text(request.prompt), flags=re.MULTILINE)[-1]


def statements_in(request: Request) -> list[str]:
    """The statements that a request for one verdict or several asks about, in its order."""
    return re.findall(r"<statement>\n(.*?)\n</statement>", task_of(request), re.DOTALL)


def tagged(*statements: str) -> str:
    return "\n".join(f"<statement>{s}</statement>" for s in statements) or "[[No factual statements]]"
