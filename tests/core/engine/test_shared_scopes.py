"""Answers to one question that are scored apart share what belongs to document and question."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import lrf
from lrf.engine.shared_scopes import SharedScopes
from lrf.errors import UnscorableError
from lrf.testing import ScriptedJudge
from lrf.types import Candidate, Chunk, Document, Judgement, Sample


class Searches:
    """A dimension that makes something once a sample, and looks for evidence."""

    name = "searches"

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.fails = False

    async def score(self, sample: Sample, candidate: Candidate, ctx: Any) -> Judgement:
        async def make() -> int:
            self.made[sample.query] += 1
            await asyncio.sleep(0.01)
            if self.fails:
                raise UnscorableError("no_luck", "not this time")
            return self.made[sample.query]

        made = await ctx.once("something", make)
        await ctx.evidence(["anything"])
        return Judgement(float(made))


class Indexes:
    """A retriever that counts its indexes, and those that were closed."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.all_closed = threading.Event()

    async def index(self, documents: Sequence[Document]) -> Any:
        self.opened += 1
        return self

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        return [[] for _ in queries]

    async def aclose(self) -> None:
        self.closed += 1
        if self.closed == self.opened:
            self.all_closed.set()


def asked(answer: str, query: str = "?") -> Sample:
    return Sample(f"s-{answer}", query, (Document("0", "A text."),), (Candidate("0", answer),))


def model_of(dimension: Searches, retriever: Indexes, window_s: float) -> lrf.RewardModel:
    model = lrf.RewardModel(ScriptedJudge(), [dimension], retriever=retriever)
    model._engine.shared = SharedScopes(window_s)
    return model


async def test_answers_to_one_question_share_what_is_made_once_and_the_index_until_the_window_ends() -> None:
    dimension, retriever = Searches(), Indexes()
    async with model_of(dimension, retriever, 0.2) as model:
        together = [model.score_sample(asked(a)) for a in "abc"] + [model.score_sample(asked("a", "another?"))]
        rewards = await asyncio.gather(*together)
        rewards.append(await model.score_sample(asked("d")))
        assert [reward.reward for (reward,) in rewards] == [1.0] * 5
        assert dimension.made == {"?": 1, "another?": 1}
        assert retriever.opened == 2
        assert await asyncio.to_thread(retriever.all_closed.wait, 30)
        assert [reward.reward for reward in await model.score_sample(asked("e"))] == [2.0]


async def test_what_could_not_be_made_is_made_anew_for_the_next_answer() -> None:
    dimension = Searches()
    async with model_of(dimension, Indexes(), 60) as model:
        dimension.fails = True
        (failed,) = await model.score_sample(asked("a"))
        assert failed.unscored is not None
        dimension.fails = False
        (reward,) = await model.score_sample(asked("b"))
        assert reward.reward == 2.0


async def test_a_model_that_is_closed_closes_what_is_shared() -> None:
    retriever = Indexes()
    async with model_of(Searches(), retriever, 60) as model:
        await model.score_sample(asked("a"))
    assert retriever.closed == 2  # the index and the retriever itself
