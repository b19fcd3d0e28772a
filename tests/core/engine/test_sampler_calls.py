"""Calls to a sampler: each candidate is drawn once, whatever was drawn before and however calls are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.sampler_calls import SamplerCalls
from lrf.errors import BudgetError, JudgeMisconfiguredError, RejectedError, UnscorableError
from lrf.prompting.requests import Reply, Usage
from lrf.protocols import Capabilities, GenerationSettings, Sampler
from lrf.store.journal import Journal
from lrf.types import JSON, Message, ToolCall


class Echo:
    """Writes the seed as the candidate, or, without seeds, how many it has drawn. Remembers every seed asked for."""

    max_concurrency = 4
    request_timeout_s = 5.0

    def __init__(self, per_call: int = 1, *, seeded: bool = True) -> None:
        self.per_call = per_call
        self.capabilities = Capabilities(seed=seeded)
        self.drawn: list[int] = []
        self.calls = 0
        self.error: Exception | None = None

    @property
    def identity(self) -> Mapping[str, JSON]:
        return {"type": "echo", "model": "echo"}

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        self.calls += 1
        if self.error:
            raise self.error
        replies = []
        for seed in generation.seeds:
            self.drawn.append(seed)
            text = str(seed if self.capabilities.seed else len(self.drawn))
            replies.append(Reply(text, usage=Usage(10, 5)))
        return replies

    async def aclose(self) -> None:
        return None


def generation(seeds: Sequence[int], **fields: Any) -> GenerationSettings:
    given: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8, **fields}
    return GenerationSettings((Message("user", "Which fee?"),), tuple(seeds), **given)


def draw(
    sampler: Sampler, journal: Journal, *drawings: GenerationSettings, budget: Budget | None = None
) -> list[list[str]]:
    async def all_of_them() -> list[list[str]]:
        calls = SamplerCalls("(sampling)", sampler, journal, BudgetLedger(budget or Budget()))
        return [[r.text for r in await calls.draw(d, "s", 0)] for d in drawings]

    return asyncio.run(all_of_them())


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.close()


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(0, 12), max_size=3),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_candidate_is_drawn_once_whatever_was_there_before(
    seeds: list[int], earlier: list[int], per_call: int, seeded: bool
) -> None:
    journal = Journal()
    try:
        sampler = Echo(per_call, seeded=seeded)
        found = draw(sampler, journal, *(generation(seeds[:n]) for n in (*earlier, len(seeds))))
        assert sorted(sampler.drawn) == sorted(seeds)
        for texts in found:
            assert texts == found[-1][: len(texts)]
        if seeded:
            assert found[-1] == [str(seed) for seed in seeds]
        assert len({*found[-1]}) == len(seeds)
        other = Echo(per_call, seeded=seeded)
        assert draw(other, journal, generation(seeds)) == [found[-1]]
        assert other.drawn == []
    finally:
        journal.close()


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.5}, {"top_p": 0.9}, {"max_tokens": 9}, {"tools": ({"name": "a"},)}]
)
def test_what_is_asked_otherwise_is_drawn_anew(journal: Journal, changed: dict[str, Any]) -> None:
    sampler = Echo()
    draw(sampler, journal, generation([1]), generation([1], **changed), generation([1]))
    assert sampler.drawn == [1, 1]


def test_what_came_before_a_failure_is_kept(journal: Journal) -> None:
    sampler = Echo()
    draw(sampler, journal, generation([1, 2]))
    sampler.error = RejectedError("too long")
    with pytest.raises(UnscorableError, match="judge_rejected"):
        draw(sampler, journal, generation([1, 2, 3, 4]))
    sampler.error = None
    assert draw(sampler, journal, generation([1, 2, 3, 4])) == [["1", "2", "3", "4"]]
    assert sampler.drawn == [1, 2, 3, 4]


def test_an_error_that_stops_the_run_counts_before_one_that_leaves_a_sample_out(journal: Journal) -> None:
    sampler = Echo()

    async def fail(generation: GenerationSettings) -> Sequence[Reply]:
        raise RejectedError("no") if generation.seeds == (1,) else JudgeMisconfiguredError("wrong key")

    sampler.sample = fail  # type: ignore[method-assign]
    with pytest.raises(JudgeMisconfiguredError):
        draw(sampler, journal, generation([1, 2]))


def test_a_budget_counts_candidates_and_not_requests(journal: Journal) -> None:
    sampler = Echo(per_call=3)
    with pytest.raises(BudgetError, match="budget of 4 calls"):
        draw(sampler, journal, generation([1, 2, 3]), generation([4, 5, 6]), budget=Budget(calls=4))
    assert sampler.drawn == [1, 2, 3]


async def test_a_call_that_is_given_up_is_no_fault() -> None:
    asked = asyncio.Event()

    class Slow(Echo):
        async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
            asked.set()
            await asyncio.sleep(60)
            return []

    journal, ledger = Journal(), BudgetLedger()
    calls = SamplerCalls("sampler", Slow(), journal, ledger)
    task = asyncio.create_task(calls.draw(generation([1]), "s", 0))
    await asked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    journal.close()
    assert ledger.total().faults == 0


def test_a_sampler_that_gives_another_number_of_candidates_is_asked_again_and_then_given_up(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.001)
    sampler = Echo(per_call=2)

    async def one(generation: GenerationSettings) -> Sequence[Reply]:
        sampler.calls += 1
        return [Reply("a")]

    sampler.sample = one  # type: ignore[method-assign]
    with pytest.raises(UnscorableError, match="gave 1 candidates where 2 were asked for"):
        draw(sampler, journal, generation([1, 2]))
    assert sampler.calls == 5


@pytest.mark.parametrize("per_call", [1, 2, 5])
def test_candidates_without_usage_count_at_most_when_the_run_goes_on_as_when_they_were_drawn(per_call: int) -> None:
    class Untold(Echo):
        async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
            return [replace(reply, usage=Usage()) for reply in await super().sample(generation)]

    async def drawn() -> tuple[BudgetLedger, int]:
        journal = Journal()
        calls = SamplerCalls("(sampling)", Untold(per_call), journal, BudgetLedger(Budget(tokens=10**6)))
        await calls.draw(generation(range(5)), "s", 0)
        await calls.aclose()
        (used,) = await asyncio.to_thread(journal.usage)
        await asyncio.to_thread(journal.close)
        return calls.ledger, used.most_prompt + used.most_reply

    ledger, most = asyncio.run(drawn())
    assert most == ledger.used[1] > 0


async def test_a_samplers_own_fault_is_counted_and_told_as_one_and_what_was_drawn_before_as_reused() -> None:
    told: list[str | None] = []
    journal, ledger, sampler = Journal(), BudgetLedger(), Echo()
    calls = SamplerCalls("sampler", sampler, journal, ledger, lambda call: told.append(call.error))
    await calls.draw(generation([1, 2]), "s", 0)
    await calls.draw(generation([1, 2]), "s", 0)

    async def broken(generation: GenerationSettings) -> Sequence[Reply]:
        raise ValueError("a bug")

    sampler.sample = broken  # type: ignore[method-assign]
    with pytest.raises(UnscorableError, match=r"sampler_error: .*a bug"):
        await calls.draw(generation([3]), "s", 0)
    await asyncio.to_thread(journal.close)
    assert told == [None, None, "sampler_error"]
    assert (ledger.total().calls, ledger.total().reused, ledger.total().faults) == (2, 2, 1)


def test_tools_and_their_calls_count_against_the_window_before_anything_is_asked() -> None:
    sampler = Echo()
    sampler.capabilities = Capabilities(seed=True, context_window=60)
    long = "fee " * 50
    tools = {"tools": ({"type": "function", "function": {"name": "look_up", "description": long}},)}
    called = Message("assistant", "", tool_calls=(ToolCall("look_up", {"what": long}),))
    turns = (Message("user", "Which fee?"), called, Message("tool", "7"))
    for too_long in (generation([1], **tools), replace(generation([1]), messages=turns)):
        with pytest.raises(UnscorableError, match="context_window") as caught:
            draw(sampler, Journal(), too_long)
        assert caught.value.reason == "context_too_small"
    assert sampler.calls == 0
    assert draw(sampler, Journal(), generation([1])) == [["1"]]


async def test_candidates_that_came_when_the_drawing_was_cancelled_are_kept(journal: Journal) -> None:
    class CancelledAtOnce(Echo):
        async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            return await super().sample(generation)

    wanted = generation([1, 2])
    with pytest.raises(asyncio.CancelledError):
        await SamplerCalls("(sampling)", CancelledAtOnce(2), journal, BudgetLedger()).draw(wanted, "s", 0)
    sampler = Echo(2)
    await SamplerCalls("(sampling)", sampler, journal, BudgetLedger()).draw(wanted, "s", 0)
    assert sampler.calls == 0


@pytest.mark.parametrize("per_call", [1, 2, 8])
def test_equal_candidates_of_samples_at_once_are_drawn_once_and_stay_those_of_the_journal(
    journal: Journal, per_call: int
) -> None:
    sampler = Echo(per_call, seeded=False)

    async def at_once() -> list[list[Reply]]:
        calls = SamplerCalls("(sampling)", sampler, journal, BudgetLedger())
        wanted = [generation(range(n)) for n in (5, 3, 5, 6)]
        drawn = await asyncio.gather(*(calls.draw(g, f"s{i}", i) for i, g in enumerate(wanted)))
        assert calls.ledger.lines["(sampling)"].reused == 3 + 5 + 5
        await calls.aclose()
        return drawn

    drawn = [[reply.text for reply in replies] for replies in asyncio.run(at_once())]
    assert len(sampler.drawn) == 6
    assert drawn == [drawn[3][:5], drawn[3][:3], drawn[3][:5], drawn[3]]
    assert draw(sampler, journal, generation(range(6))) == [drawn[3]]


def test_a_failure_of_candidates_that_several_samples_wait_for_reaches_each_and_is_forgotten(journal: Journal) -> None:
    sampler = Echo(seeded=False)
    sampler.error = RejectedError("no")

    async def at_once() -> None:
        calls = SamplerCalls("(sampling)", sampler, journal, BudgetLedger())
        outcomes = await asyncio.gather(
            *(calls.draw(generation([1]), f"s{i}", i) for i in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [UnscorableError] * 3
        assert sampler.calls == 1
        sampler.error = None
        assert len(await calls.draw(generation([1]), "s3", 3)) == 1
        await calls.aclose()

    asyncio.run(at_once())
