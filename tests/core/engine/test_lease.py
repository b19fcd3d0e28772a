"""What may be in flight is in the journal before it is sent, for the case that the run is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.asked import Asked
from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.lease import STEP, Lease
from lrf.engine.paid_call import Caller
from lrf.engine.worst_case import WorstCase
from lrf.errors import BudgetError, RunError, RunInterruptedError, UnavailableError, UnscorableError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.close()


async def taken(journal: Journal) -> tuple[int, int]:
    """Calls and tokens that another sitting would count."""
    used = await asyncio.to_thread(journal.usage)
    return sum(u.calls for u in used), sum(u.most_prompt + u.most_reply for u in used)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 10**6), st.integers(0, 9000)), max_size=30))
async def test_what_is_in_flight_is_never_more_than_what_is_noted(calls: list[tuple[int, int, int]]) -> None:
    journal = Journal()
    lease = Lease(journal, "{}")
    worst = [WorstCase(*call) for call in calls]
    await asyncio.gather(*map(lease.cover, worst[::2]))
    for call in worst[1::2]:
        await lease.cover(call)
    now = await taken(journal)
    assert now[0] >= sum(call.calls for call in worst)
    assert now[1] >= sum(call.prompt + call.reply for call in worst)
    assert now[0] < sum(call.calls for call in worst) + STEP
    for call in worst:
        lease.give_back(call)
    await lease.release()
    assert await taken(journal) == (0, 0)
    await asyncio.to_thread(journal.close)


@pytest.mark.parametrize("outcome", [Reply("[[7]]", usage=Usage(10, 5)), UnavailableError("gone", sent=True)])
async def test_a_call_counts_while_it_is_in_flight_and_afterwards_as_it_ended(
    journal: Journal, outcome: Reply | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.engine.retries.FAULTS", 1)
    seen: list[tuple[int, int]] = []
    arrived, go = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedJudge):
        async def complete(self, request: Request) -> Reply:
            arrived.set()
            await go.wait()
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    calls = JudgeCalls("main", Slow(), journal, BudgetLedger(Budget(calls=100)))
    prompt = (Segment("How apt is it?", trusted=False),)
    asked = asyncio.create_task(calls.ask(Asked(prompt, Rating(), 64, Caller("s", "d"))))
    await arrived.wait()
    seen.append(await taken(journal))
    go.set()
    if isinstance(outcome, Exception):
        with pytest.raises(UnscorableError):
            await asked
    else:
        assert (await asked).value == 7
    await calls.aclose()
    assert seen[0][0] == STEP
    assert (await taken(journal))[0] == 1


class Batching(ScriptedJudge):
    """Replies once it may; what nobody waits for stays with it, as with a batch API."""

    capabilities = Capabilities(steady=False)

    def __init__(self) -> None:
        super().__init__()
        self.go, self.asked = asyncio.Event(), asyncio.Semaphore(0)

    async def complete(self, request: Request) -> Reply:
        self.asked.release()
        await self.go.wait()
        return Reply("[[7]]", usage=Usage(10, 5))

    def detach(self) -> str | None:
        return None


async def test_calls_that_a_killed_run_left_in_a_batch_count_until_they_are_asked_for_again(journal: Journal) -> None:
    """The next sitting may ask other questions first, which would be paid for beside those of the batch."""

    def question(name: str) -> Asked[float]:
        return Asked((Segment(f"Question {name}.", trusted=False),), Rating(), 64, Caller("s", "d"))

    def sitting(used: tuple[int, int]) -> JudgeCalls:
        ledger = BudgetLedger(Budget(calls=3, tokens=10_000))
        ledger.carry(*used, 0)
        return JudgeCalls("main", judge, journal, ledger)

    judge = Batching()
    killed = sitting((0, 0))
    waiting = [asyncio.create_task(killed.ask(question(name))) for name in "abc"]
    for _ in "abc":
        await judge.asked.acquire()
    await killed.flights.aclose()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert killed.ledger.used[0] == 3  # here, too
    left = await taken(journal)
    assert left[0] == 3
    resumed = sitting(left)
    judge.go.set()
    with pytest.raises(BudgetError, match=r"the budget of 3 calls is reached \(3 made\)"):
        await resumed.ask(question("d"))
    for name in "abc":
        assert (await resumed.ask(question(name))).value == 7
    assert resumed.ledger.used[:2] == (3, 45)
    assert await taken(journal) == (3, 0)


async def test_once_a_reply_cant_be_kept_nothing_more_is_sent(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr(journal, "commit_reply", full)
    monkeypatch.setattr(Batching, "max_concurrency", 2)
    judge = Batching()
    judge.go.set()
    calls = JudgeCalls("main", judge, journal, BudgetLedger())
    questions = [Asked((Segment(f"Question {n}."),), Rating(), 64, Caller("s", "d")) for n in range(9)]
    ended = await asyncio.gather(*map(calls.ask, questions), return_exceptions=True)
    kinds = [type(error) for error in ended]
    assert set(kinds) == {RunError, RunInterruptedError}
    assert kinds.count(RunError) <= 4  # in flight, or come and not kept yet
