"""The engine: samples in, rewards out, and one candidate's trouble is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.engine import Engine
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension
from lrf.errors import (
    BudgetError,
    JudgeMisconfiguredError,
    RunError,
    RunInterruptedError,
    StageError,
    UnavailableError,
    UnscorableError,
)
from lrf.prompting.expectations import Rating, Text
from lrf.prompting.templates import Segment
from lrf.protocols import Aggregator, Context, Embed, Index
from lrf.store.journal import Journal
from lrf.testing import HashEmbedder, ScriptedJudge
from lrf.types import Candidate, Chunk, Document, Judgement, Reward, Sample, Unscored

Score = Callable[[Sample, Candidate, Context], Awaitable[Judgement]]

DOCUMENTS = (Document("a", "First. " * 100), Document("b", "Second. " * 100))
SAMPLE = Sample("s", "What?", DOCUMENTS, tuple(Candidate(str(i), f"answer {i}") for i in range(4)))


class Mean:
    def aggregate(self, ratings: dict[str, float | None]) -> float | None:
        values = [r for r in ratings.values() if r is not None]
        return sum(values) / len(values) if values and len(values) == len(ratings) else None


class Dim:
    def __init__(self, score: Score) -> None:
        self.score = score


class Chunks:
    """A retriever that embeds whole documents and gives them all as evidence."""

    def __init__(self, embed: Embed) -> None:
        self.embed = embed
        self.open = 0

    async def index(self, documents: Sequence[Document]) -> Index:
        await self.embed([d.text for d in documents], "document")
        self.open += 1
        return _Index(self, documents)

    async def aclose(self) -> None:
        return None


class _Index:
    def __init__(self, retriever: Chunks, documents: Sequence[Document]) -> None:
        self.retriever, self.documents = retriever, documents

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        await self.retriever.embed(queries, "query")
        return [[Chunk(d.id, 0, len(d.text), d.text) for d in self.documents][:top_k] for _ in queries]

    async def aclose(self) -> None:
        self.retriever.open -= 1


@asynccontextmanager
async def engine_with(
    dimensions: dict[str, Score],
    judge: ScriptedJudge | None = None,
    *,
    budget: Budget | None = None,
    aggregator: Any = None,
    embedder: HashEmbedder | None = None,
) -> AsyncIterator[Engine]:
    journal, ledger = Journal(), BudgetLedger(budget or Budget())
    embeds = EmbedderCalls("main", embedder or HashEmbedder(), journal, ledger)
    given: Aggregator = aggregator or Mean()
    engine = Engine(
        dimensions=[NamedDimension(name, Dim(score), "main", "main") for name, score in dimensions.items()],
        judges={"main": JudgeCalls("main", judge or ScriptedJudge(), journal, ledger)},
        retrievers={"main": Chunks(embeds.embed)},
        embedders={"main": embeds},
        aggregator=given,
        journal=journal,
        ledger=ledger,
        observers=Observers(None, lambda *_: None),
    )
    try:
        yield engine
    finally:
        await engine.aclose()
        await asyncio.to_thread(journal.close)


async def ask(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
    prompt = (Segment("Rate: "), Segment(candidate.text, trusted=False))
    return Judgement((await ctx.ask(prompt, Rating())).value)


def fixed(rating: Any) -> Score:
    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(rating)

    return score


def raising(error: BaseException, only: str | None = None) -> Score:
    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        if only is None or candidate.id == only:
            raise error
        return Judgement(5.0)

    return score


async def test_rewards_come_in_the_order_of_candidates_with_a_rating_for_each_dimension() -> None:
    async def by_id(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await asyncio.sleep(0.01 / (1 + int(candidate.id)))
        return Judgement(float(candidate.id))

    async with engine_with({"a": by_id, "b": fixed(10.0)}) as engine:
        rewards = await engine.score(SAMPLE)
    assert [r.candidate_id for r in rewards] == ["0", "1", "2", "3"]
    assert [r.reward for r in rewards] == [5.0, 5.5, 6.0, 6.5]
    assert all(list(r.ratings) == ["a", "b"] and r.unscored is None for r in rewards)


async def test_a_sample_without_candidates_has_no_reward_and_costs_nothing() -> None:
    embedder, judge = HashEmbedder(), ScriptedJudge()
    async with engine_with({"a": ask}, judge, embedder=embedder) as engine:
        assert await engine.score(Sample("s", "What?", DOCUMENTS)) == ()
        await asyncio.sleep(0.05)
    assert not judge.requests
    assert not embedder.batches


async def test_a_missing_dimension_makes_the_reward_null_and_says_which_and_why() -> None:
    async with engine_with({"good": fixed(9.0), "bad": raising(UnscorableError("no_sense", "none at all"))}) as engine:
        reward = (await engine.score(SAMPLE))[0]
    assert reward.reward is None
    assert reward.ratings == {"good": 9.0, "bad": None}
    assert reward.unscored == Unscored("bad", "no_sense", "none at all")
    assert isinstance(reward.judgements["good"], Judgement)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), np.float32("nan"), None])
async def test_a_reward_that_is_no_number_becomes_none(given: float | None) -> None:
    class Odd:
        def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
            return given

    async with engine_with({"a": fixed(5.0)}, aggregator=Odd()) as engine:
        for reward in await engine.score(SAMPLE):
            assert (reward.reward, reward.ratings) == (None, {"a": 5.0})
            assert reward.unscored is not None
            assert (reward.unscored.dimension, reward.unscored.reason) == ("aggregator", "no_reward")


async def test_of_a_calibration_observers_hear_no_rewards_and_no_failures() -> None:
    told: list[str] = []
    async with engine_with({"a": raising(ValueError("a bug"))}) as engine:
        engine.observers.tell = lambda hook, /, **_: told.append(hook)  # type: ignore[method-assign]
        await engine.score(SAMPLE, take=1)
        assert told == []
        await engine.score(SAMPLE)
        assert set(told) == {"lrf_component_failed", "lrf_sample_scored"}


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even its text fails")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake"),
        KeyError("x"),
        TimeoutError(),
        RecursionError("deep"),
        AssertionError("no"),
        StopAsyncIteration(),
        ExceptionGroup("some", [ValueError("a"), KeyError("b")]),
        asyncio.CancelledError(),
        asyncio.InvalidStateError(),
        OddError(),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_whatever_a_dimension_raises_its_candidate_is_unscored_and_nobody_else(error: BaseException) -> None:
    async with engine_with({"a": raising(error, only="2"), "b": fixed(5.0)}) as engine:
        rewards = await engine.score(SAMPLE)
        again = await engine.score(Sample("t", "What?", DOCUMENTS, SAMPLE.candidates[:1]))
    assert [r.reward for r in rewards] == [5.0, 5.0, None, 5.0]
    unscored = rewards[2].unscored
    assert unscored is not None
    assert unscored.dimension == "a"
    assert unscored.reason == ("machine_error" if isinstance(error, TimeoutError) else "dimension_error")
    assert rewards[2].ratings["b"] == 5.0
    assert again[0].reward == 5.0


@pytest.mark.parametrize(
    "rating", [-0.1, 10.01, 1e9, float("nan"), float("inf"), None, "7", 1j], ids=lambda rating: repr(rating)
)
async def test_a_rating_outside_0_to_10_becomes_none(rating: Any) -> None:
    async with engine_with({"a": fixed(rating)}) as engine:
        reward = (await engine.score(SAMPLE))[0]
    assert reward.reward is None
    assert reward.ratings == {"a": None}
    assert reward.unscored is not None
    assert reward.unscored.reason in ("rating_out_of_range", "dimension_error")


async def test_a_dimension_that_gives_no_judgement_is_unscored() -> None:
    async def forgot(sample: Sample, candidate: Candidate, ctx: Context) -> Any:
        return 7.0

    async with engine_with({"a": forgot}) as engine:
        unscored = (await engine.score(SAMPLE))[0].unscored
    assert unscored is not None
    assert unscored.reason == "dimension_error"


async def test_a_judgement_that_can_not_be_stored_makes_its_candidate_unscored() -> None:
    async def odd(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(5.0, extra={"when": object() if candidate.id == "1" else "now"})

    async with engine_with({"a": odd}) as engine:
        rewards = await engine.score(SAMPLE)
    assert [r.reward for r in rewards] == [5.0, None, 5.0, 5.0]


async def test_a_numpy_number_is_a_rating_like_any_other() -> None:
    async with engine_with({"a": fixed(np.float32(7.5))}) as engine:
        reward = (await engine.score(SAMPLE))[0]
    assert reward.reward == 7.5
    assert type(reward.ratings["a"]) is float


async def test_a_judge_that_fails_is_a_transient_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)
    judge = ScriptedJudge(lambda r: UnavailableError("503") if "answer 1" in r.prompt[1].text else "[[5]]")
    async with engine_with({"a": ask}, judge) as engine:
        rewards = await engine.score(SAMPLE)
    assert [r.reward for r in rewards] == [5.0, None, 5.0, 5.0]
    unscored = rewards[1].unscored
    assert unscored is not None
    assert (unscored.reason, unscored.transient) == ("judge_unavailable", True)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["ok", "unscorable", "error", "range"]), min_size=2, max_size=2), max_size=6))
def test_candidates_in_are_rewards_out_with_a_number_or_a_reason(plan: list[list[str]]) -> None:
    def dimension(number: int) -> Score:
        async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            match plan[int(candidate.id)][number]:
                case "unscorable":
                    raise UnscorableError("reason")
                case "error":
                    raise ValueError("error")
                case "range":
                    return Judgement(11.0)
            return Judgement(4.0)

        return score

    async def run() -> tuple[Reward, ...]:
        sample = Sample("s", "q", DOCUMENTS, tuple(Candidate(str(i), "x") for i in range(len(plan))))
        async with engine_with({"a": dimension(0), "b": dimension(1)}) as engine:
            return await engine.score(sample)

    rewards = asyncio.run(run())
    assert [r.candidate_id for r in rewards] == [str(i) for i in range(len(plan))]
    for reward, kinds in zip(rewards, plan, strict=True):
        assert (reward.reward is None) == (reward.unscored is not None) == (set(kinds) != {"ok"})


async def test_what_is_made_once_is_made_once_for_all_candidates() -> None:
    made = []

    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        async def make() -> float:
            made.append(candidate.id)
            await asyncio.sleep(0.01)
            return 6.0

        return Judgement(await ctx.once("key", make))

    async with engine_with({"a": score, "b": score}) as engine:
        rewards = await engine.score(SAMPLE)
        assert [r.reward for r in rewards] == [6.0] * 4
        assert len(made) == 2  # each dimension has its own
        await engine.score(SAMPLE)
        assert len(made) == 4  # and each sample


async def test_what_can_not_be_made_fails_for_all_that_need_it_and_is_tried_once() -> None:
    made = []

    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        async def make() -> float:
            made.append(1)
            raise UnscorableError("no_notes")

        return Judgement(await ctx.once("key", make))

    async with engine_with({"a": score, "b": fixed(5.0)}) as engine:
        rewards = await engine.score(SAMPLE)
    assert [r.unscored and r.unscored.reason for r in rewards] == ["no_notes"] * 4
    assert len(made) == 1


async def test_documents_are_embedded_once_for_all_candidates_and_dimensions() -> None:
    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        found = await ctx.evidence([candidate.text], 1)
        assert [len(chunks) for chunks in found] == [1]
        return Judgement(5.0)

    embedder = HashEmbedder()
    async with engine_with({"a": score, "b": score}, embedder=embedder) as engine:
        await engine.score(SAMPLE)
        retriever: Any = engine.retrievers["main"]
        assert retriever.open == 0  # the index is closed with the sample
    texts = [text for batch in embedder.batches for text in batch]
    assert sorted(texts) == sorted([d.text for d in DOCUMENTS] + [c.text for c in SAMPLE.candidates])


async def test_a_retriever_that_fails_makes_candidates_unscored_only_where_evidence_is_needed() -> None:
    async def needs(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await ctx.evidence(["x"])
        return Judgement(5.0)

    async with engine_with({"a": needs, "b": fixed(5.0)}) as engine:

        async def broken(documents: Sequence[Document]) -> Index:
            raise ConnectionError("the store is down")

        engine.retrievers["main"].index = broken  # type: ignore[method-assign]
        reward = (await engine.score(SAMPLE))[0]
    assert reward.ratings == {"a": None, "b": 5.0}
    assert reward.unscored is not None
    assert "the store is down" in reward.unscored.detail


async def test_chunks_cover_all_documents_in_order() -> None:
    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        chunks = await ctx.chunks(32)
        for document in sample.documents:
            own = [c for c in chunks if c.document == document.id]
            assert "".join(c.text for c in own) == document.text
        return Judgement(5.0, extra={"chunks": len(chunks)})

    async with engine_with({"a": score}) as engine:
        judgement = (await engine.score(SAMPLE))[0].judgements["a"]
    assert isinstance(judgement, Judgement)
    assert judgement.extra["chunks"] > 2


@pytest.mark.parametrize(("text", "language"), [("文档是中文写的。" * 20, "zh"), ("English text. " * 20, "en")])
async def test_the_language_is_that_of_the_documents(text: str, language: str) -> None:
    seen = []

    async def score(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        seen.append(ctx.language)
        return Judgement(5.0)

    async with engine_with({"a": score}) as engine:
        await engine.score(Sample("s", "What?", (Document("0", text),), SAMPLE.candidates[:1]))
    assert seen == [language]


async def test_a_dimension_that_names_no_need_gets_a_reason_and_not_somebody_elses_judge() -> None:
    async def evidence(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await ctx.evidence(["x"])
        return Judgement(5.0)

    async with engine_with({}) as engine:
        engine.dimensions = [NamedDimension("a", Dim(ask)), NamedDimension("b", Dim(evidence))]
        judgements = (await engine.score(SAMPLE))[0].judgements
    assert [j.reason for j in judgements.values() if isinstance(j, Unscored)] == ["no_judge", "no_retriever"]


async def test_a_retriever_that_gives_what_is_not_in_the_document_leaves_candidates_unscored() -> None:
    class Inventing:
        async def index(self, documents: Sequence[Document]) -> Inventing:
            return self

        async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
            return [[Chunk(DOCUMENTS[0].id, 0, 4, "made")] for _ in queries]

        async def aclose(self) -> None: ...

    async def evidence(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await ctx.evidence(["x"])
        return Judgement(5.0)

    async with engine_with({}) as engine:
        engine.retrievers = {"r": Inventing()}
        engine.dimensions = [NamedDimension("a", Dim(evidence), retriever="r")]
        [judgement] = (await engine.score(SAMPLE))[0].judgements.values()
    assert isinstance(judgement, Unscored)
    assert judgement.reason == "wrong_evidence"


@pytest.mark.parametrize(
    "error", [JudgeMisconfiguredError("wrong key"), RunError("disk"), StageError("down"), BudgetError("spent")]
)
async def test_an_error_that_stops_the_run_is_raised_and_drains(error: Exception) -> None:
    async with engine_with({"a": raising(error, only="1"), "b": fixed(5.0)}) as engine:
        with pytest.raises(type(error)):
            await engine.score(SAMPLE)
        assert engine.fatal is error
        assert engine.stop.stopping
        assert engine.moved.is_set()


async def test_a_fatal_error_in_a_group_is_not_taken_for_a_candidates_trouble() -> None:
    group = ExceptionGroup("both", [ValueError("x"), ExceptionGroup("inner", [JudgeMisconfiguredError("wrong key")])])
    async with engine_with({"a": raising(group)}) as engine:
        with pytest.raises(JudgeMisconfiguredError):
            await engine.score(SAMPLE)


async def test_after_a_stop_everybody_is_told_the_first_reason() -> None:
    judge = ScriptedJudge(lambda _: JudgeMisconfiguredError("wrong key"))
    async with engine_with({"a": ask}, judge) as engine:
        for _ in range(2):
            with pytest.raises(JudgeMisconfiguredError):
                await engine.score(SAMPLE)


async def test_a_stopped_engine_asks_nobody() -> None:
    judge = ScriptedJudge()
    async with engine_with({"a": ask}, judge) as engine:
        engine.drain()
        with pytest.raises(RunInterruptedError):
            await engine.score(SAMPLE)
    assert not judge.requests


async def test_a_score_that_is_cancelled_closes_its_index_and_leaves_no_task() -> None:
    searched = asyncio.Event()

    async def hang(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await ctx.evidence(["x"])
        searched.set()
        await asyncio.sleep(3600)
        return Judgement(5.0)

    async with engine_with({"a": hang}) as engine:
        retriever: Any = engine.retrievers["main"]
        task = asyncio.create_task(engine.score(SAMPLE))
        await searched.wait()
        assert retriever.open == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert retriever.open == 0


async def test_notes_and_ratings_of_one_sample_go_before_those_of_the_next() -> None:
    order, all_wait = [], asyncio.Event()

    async def script(request: Any) -> str:
        order.append(int(request.prompt[1].text.split()[1]))
        await all_wait.wait()
        return "[[5]]"

    async def tell(sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        prompt = (Segment("Rate: "), Segment(f"{sample.id} {candidate.id}", trusted=False))
        await ctx.ask(prompt, Text())
        return Judgement(5.0)

    async with engine_with({"a": tell}, ScriptedJudge(script, max_concurrency=1)) as engine:
        samples = [Sample(f"sample {i}", "q", DOCUMENTS, SAMPLE.candidates) for i in range(4)]
        work = asyncio.gather(*(engine.score(samples[i], position=i) for i in (3, 1, 0, 2)))
        for _ in range(1000):
            await asyncio.sleep(0.005)
            if engine.waiting == 15:
                break
        all_wait.set()
        await work
    assert order[1:] == sorted(order[1:])
