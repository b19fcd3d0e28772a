"""Samples are finished one after another as far as the slots allow, so an interrupted run leaves rewards."""

from __future__ import annotations

import asyncio

import pytest

from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension
from lrf.errors import RunInterruptedError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.protocols import Context
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.types import Candidate, Document, Judgement, Sample
from lrf_aggregators.mean import Mean
from lrf_aggregators.settings import MeanSettings

SAMPLES, CANDIDATES, CALLS_A_CANDIDATE = 6, 4, 4


class TwoSteps:
    """Asks one question and then three more, as a dimension does that extracts statements and judges each."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        async def ask(question: str) -> float:
            text = f"{sample.id} {candidate.id} {question}"
            return (await ctx.ask((Segment(text, trusted=False),), Rating())).value

        first = await ask("first")
        return Judgement(max(first, *await asyncio.gather(*(ask(f"then {i}") for i in range(CALLS_A_CANDIDATE - 1)))))


@pytest.mark.parametrize(("slots", "finished"), [(1, 3), (2, 3), (4, 2), (8, 2)])
async def test_an_interrupted_run_leaves_finished_samples_in_proportion(slots: int, finished: int) -> None:
    calls_a_sample = CANDIDATES * CALLS_A_CANDIDATE
    half = SAMPLES * calls_a_sample // 2

    async def reply(_: Request) -> str:
        for _ in range(8):  # a call takes longer than what follows from the reply before it: a commit, a look-up
            await asyncio.wrap_future(journal.do(lambda _: None))
        if len(judge.requests) >= half:
            engine.drain(RunInterruptedError("Ctrl-C"))
        return "[[7]]"

    judge = ScriptedJudge(reply, max_concurrency=slots)
    journal, ledger, observers = Journal(), BudgetLedger(), Observers(None, lambda *_: None)
    engine = Engine(
        dimensions=[NamedDimension("d", TwoSteps(), "main")],
        judges=judge_calls({"main": judge}, journal, ledger, observers, seed=0),
        retrievers={},
        embedders={},
        aggregator=Mean(MeanSettings()),
        journal=journal,
        ledger=ledger,
        observers=observers,
    )
    candidates = tuple(Candidate(str(i), f"answer {i}") for i in range(CANDIDATES))
    samples = [Sample(f"s{i}", "question", (Document("d", "text"),), candidates) for i in range(SAMPLES)]
    outcomes = await asyncio.gather(
        *(engine.score(sample, position) for position, sample in enumerate(samples)), return_exceptions=True
    )
    await engine.aclose()
    await asyncio.to_thread(journal.close)
    done = [position for position, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert done == list(range(len(done)))
    assert len(done) >= finished
    assert ledger.total().calls < half + slots
