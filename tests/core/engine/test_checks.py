"""Components that return what no protocol allows, or raise what none foresees: named, told apart, and bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.build import _try_out
from lrf.engine.budget import BudgetLedger
from lrf.engine.checks import check_judgement, check_reply
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.faults import FaultError, is_passing, owned
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension
from lrf.errors import BadReplyError, PluginError, RunInterruptedError, StageError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply
from lrf.prompting.templates import Segment
from lrf.protocols import Context
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.types import Candidate, Chunk, Document, JudgedStatement, Judgement, Note, Reward, Sample, Span

DOCUMENTS = (Document("a", "Oil was found."), Document("b", "Gas was not."))
SAMPLE = Sample("s", "What was found?", DOCUMENTS, (Candidate("0", "Oil."), Candidate("1", "Gas.")))
A, B, LATER = Chunk("a", 0, 3, "Oil"), Chunk("b", 0, 3, "Gas"), Chunk("a", 4, 7, "was")


class Asks:
    """A dimension that asks its judge."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement((await ctx.ask((Segment("Rate: "), Segment(candidate.text, trusted=False)), Rating())).value)


class Searches:
    """A dimension that looks for evidence on two queries."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        await ctx.evidence(["oil", "gas"], 2)
        return Judgement(5.0)


class Raises:
    """A component of any kind whose code fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def score(self, *_: Any) -> Any:
        raise self.error

    index = search = score

    def aggregate(self, ratings: Any) -> float:
        raise self.error


class Finds:
    """A retriever that gives the same for any queries."""

    def __init__(self, evidence: Any) -> None:
        self.evidence = evidence

    async def index(self, documents: Sequence[Document]) -> Finds:
        return self

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> Any:
        return self.evidence

    async def aclose(self) -> None:
        return None


class Gives:
    """An aggregator that gives the same for all complete ratings."""

    def __init__(self, reward: Any) -> None:
        self.reward = reward

    def aggregate(self, ratings: Any) -> Any:
        return None if None in ratings.values() else self.reward


class Wide(Gives):
    reward_range = (-100.0, float("inf"))


def engine_of(
    dimension: Any, judge: ScriptedJudge | None = None, retrievers: Any = None, aggregator: Any = None
) -> tuple[Engine, list[FaultError]]:
    """An engine, and the faults of which it tells."""
    faults: list[FaultError] = []
    journal, ledger, observers = Journal(), BudgetLedger(), Observers(None, lambda *_: None)
    engine = Engine(
        dimensions=[NamedDimension("d", dimension, "main", "main")],
        judges=judge_calls({"main": judge or ScriptedJudge()}, journal, ledger, observers, seed=0),
        retrievers=retrievers or {"main": Finds([[], []])},
        embedders={},
        aggregator=aggregator or Gives(5.0),
        journal=journal,
        ledger=ledger,
        observers=observers,
        on_fault=faults.append,
    )
    return engine, faults


@asynccontextmanager
async def closed_engine(engine: Engine) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await engine.aclose()
        engine.journal.close()


async def scored(
    dimension: Any, judge: ScriptedJudge | None = None, retriever: Any = None, aggregator: Any = None
) -> tuple[Reward, list[FaultError]]:
    """The first candidate's reward, and the faults of which the engine told."""
    engine, faults = engine_of(dimension, judge, retriever and {"main": retriever}, aggregator)
    try:
        return (await engine.score(SAMPLE))[0], faults
    finally:
        engine.journal.close()


def raising(error: BaseException) -> ScriptedJudge:
    def script(_request: Any) -> str:
        raise error

    return ScriptedJudge(script)


@pytest.mark.parametrize(
    ("evidence", "problem"),
    [
        ([[A]], "gave 1 lists of chunks for 2 queries"),
        (None, "gave a NoneType lists of chunks for 2 queries"),
        ([[A], None], "something other than a list of chunks"),
        ([[A], ["Gas"]], "something other than a list of chunks"),
        ([[A], [A, LATER, B]], "gave 3 chunks for a query, where 2 is the most"),
        ([[A], [B, A]], "out of document order: document 'a' from 0 to 3 comes too late"),
        ([[A], [LATER, A]], "out of document order: document 'a' from 0 to 3 comes too late"),
        ([[A], [A, A]], "gave a chunk twice: document 'a' from 0 to 3"),
        ([[A], [Chunk("a", 0, 3, "oil")]], "isn't the text of document 'a' from 0 to 3"),
        ([[A], [Chunk("c", 0, 3, "Oil")]], "isn't the text of document 'c' from 0 to 3"),
        ([[A], [Chunk("a", -1, len(DOCUMENTS[0].text), "")]], "isn't the text of document 'a' from -1"),
    ],
)
async def test_evidence_that_breaks_the_protocol_is_refused_and_its_retriever_named(
    evidence: Any, problem: str
) -> None:
    reward, _ = await scored(Searches(), retriever=Finds(evidence))
    assert reward.unscored is not None
    assert (reward.unscored.reason, reward.unscored.transient) == ("wrong_evidence", False)
    assert reward.unscored.detail.startswith("retrievers.main (Finds of tests): the retriever gave ")
    assert problem in reward.unscored.detail


async def test_evidence_that_keeps_the_protocol_is_taken() -> None:
    reward, faults = await scored(Searches(), retriever=Finds([[A, LATER], ()]))
    assert (reward.reward, faults) == (5.0, [])


@pytest.mark.parametrize("given", [-0.5, 10.5, 1e9])
async def test_a_reward_outside_0_to_10_is_refused_unless_the_aggregator_states_its_range(given: float) -> None:
    reward, _ = await scored(Asks(), aggregator=Gives(given))
    assert reward.unscored is not None
    assert reward.unscored.reason == "reward_out_of_range"
    assert "aggregator (Gives of tests) gave" in reward.unscored.detail
    assert (await scored(Asks(), aggregator=Wide(given)))[0].reward == given


async def test_a_reward_outside_the_range_that_the_aggregator_states_is_refused() -> None:
    reward, _ = await scored(Asks(), aggregator=Wide(-101.0))
    assert reward.unscored is not None
    assert "gave -101, which is not -100 to inf" in reward.unscored.detail


@pytest.mark.parametrize("reward", ["seven", "7", True, object()])
async def test_an_aggregator_whose_code_fails_stops_the_run_by_name(reward: Any) -> None:
    with pytest.raises(StageError, match=r"aggregator \(Gives of tests\): \w+Error.*replies are kept"):
        await scored(Asks(), aggregator=Gives(reward))


@pytest.mark.parametrize(
    ("parts", "reason", "component"),
    [
        ({"dimension": Raises(ValueError("a bug"))}, "dimension_error", "dimensions.d (Raises of tests)"),
        (
            {"dimension": Asks(), "judge": raising(ValueError("a bug"))},
            "judge_error",
            "judges.main (ScriptedJudge of lrf)",
        ),
        (
            {"dimension": Searches(), "retriever": Raises(ValueError("a bug"))},
            "retriever_error",
            "retrievers.main (Raises of tests)",
        ),
    ],
    ids=["dimension", "judge", "retriever"],
)
async def test_faults_of_judge_retriever_and_dimension_are_distinguished_and_have_their_traceback(
    parts: Any, reason: str, component: str
) -> None:
    reward, faults = await scored(**parts)
    assert reward.unscored is not None
    assert (reward.unscored.reason, reward.unscored.transient) == (reason, False)
    assert reward.unscored.detail == f"{component}: ValueError: a bug"
    assert {fault.component for fault in faults} == {component}
    assert "test_checks.py" in faults[0].trace


class Writes(Gives):
    """An aggregator that changes the ratings that it gets."""

    def aggregate(self, ratings: Any) -> Any:
        ratings["other"] = 10.0


async def test_an_aggregator_can_not_change_the_ratings() -> None:
    with pytest.raises(StageError, match=r"aggregator \(Writes of tests\): TypeError"):
        await scored(Asks(), aggregator=Writes(5.0))


def test_an_aggregator_that_does_not_return_when_it_is_tried_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Waits:
        def aggregate(self, ratings: Any) -> float:
            ended.wait(60)
            return 5.0

    monkeypatch.setattr("lrf.build.TRIAL_S", 0.05)
    with pytest.raises(PluginError, match=r"aggregator \(\S*Waits of tests\) has not returned a reward"):
        _try_out(Waits(), {"d": 5.0})
    ended.set()
    with pytest.raises(PluginError, match=r"aggregator \(Raises of tests\): SystemExit: 3"):
        _try_out(Raises(SystemExit(3)), {"d": 5.0})  # type: ignore[arg-type]


@given(st.integers(-3, 30), st.integers(-3, 30), st.sampled_from(["a", "c"]))
async def test_a_judgement_with_a_span_outside_the_documents_is_the_dimensions_fault(
    start: int, end: int, document: str
) -> None:
    class Notes:
        async def score(self, sample: Any, candidate: Any, ctx: Any) -> Judgement:
            return Judgement(5.0, notes=(Note(Span(document, start, end), "a note"),))

    reward, faults = await scored(Notes())
    texts = {d.id: d.text for d in SAMPLE.documents}
    inside = document in texts and 0 <= start <= end <= len(texts[document])
    assert (reward.reward is not None) == inside == (not faults)


class Odd(BaseException):
    """No ``Exception``, so that an ordinary handler doesn't see it."""


@pytest.mark.parametrize("leaves", [SystemExit("good-bye"), Odd("good-bye" * 10_000_000)], ids=["exit", "odd"])
@pytest.mark.parametrize("kind", ["dimension", "judge", "retriever"])
async def test_whatever_a_component_raises_is_its_fault_said_in_short_and_the_run_goes_on(
    kind: str, leaves: BaseException
) -> None:
    parts = {
        "dimension": {"dimension": Raises(leaves)},
        "judge": {"dimension": Asks(), "judge": raising(leaves)},
        "retriever": {"dimension": Searches(), "retriever": Raises(leaves)},
    }[kind]
    reward, faults = await scored(**parts)  # type: ignore[arg-type]
    assert reward.unscored is not None
    assert reward.unscored.reason == f"{kind}_error"
    assert f"{type(leaves).__name__}: good-bye" in reward.unscored.detail
    assert len(reward.unscored.detail) < 2_200
    assert faults


async def _cancel_itself(*_: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["dimension", "judge", "retriever"])
async def test_a_component_that_cancels_its_own_task_is_named_and_the_others_go_on(kind: str) -> None:
    judge = ScriptedJudge()
    judge.complete = _cancel_itself  # type: ignore[method-assign, assignment]
    cancels = type("Cancels", (), {"__module__": __name__, "score": _cancel_itself, "index": _cancel_itself})()
    reward, faults = await scored(
        {"dimension": cancels, "judge": Asks(), "retriever": Searches()}[kind],
        judge if kind == "judge" else None,
        cancels if kind == "retriever" else None,
    )
    assert reward.unscored is not None
    assert reward.unscored.reason == f"{kind}_error"
    title = {
        "dimension": "dimensions.d (Cancels of tests)",
        "judge": "judges.main (ScriptedJudge of lrf)",
        "retriever": "retrievers.main (Cancels of tests)",
    }[kind]
    assert reward.unscored.detail == f"{title}: RuntimeError: its code cancelled its own task"
    assert {fault.component for fault in faults} == {title}


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(24, "Too many open files"), RuntimeError("can't start new thread")], ids=repr
)
@pytest.mark.parametrize("kind", ["dimension", "judge", "retriever", "aggregator"])
async def test_an_error_of_the_machine_may_pass_and_names_its_component(kind: str, error: Exception) -> None:
    parts = {
        "dimension": {"dimension": Raises(error)},
        "judge": {"dimension": Asks(), "judge": raising(error)},
        "retriever": {"dimension": Searches(), "retriever": Raises(error)},
        "aggregator": {"dimension": Asks(), "aggregator": Raises(error)},
    }[kind]
    reward, faults = await scored(**parts)  # type: ignore[arg-type]
    assert reward.unscored is not None
    assert (reward.unscored.reason, reward.unscored.transient) == ("machine_error", True)
    assert kind in reward.unscored.detail
    assert type(error).__name__ in reward.unscored.detail
    assert faults
    assert all(fault.transient for fault in faults)


@pytest.mark.parametrize(("finish", "word"), [("fnord", "fnord"), (None, "(none)"), ("other", "(none)"), (3, "3")])
def test_a_judges_own_word_for_a_replys_end_is_kept_as_its_word(finish: Any, word: str) -> None:
    checked = check_reply(Reply("[[5]]", finish))
    assert (checked.finish, checked.finish_word) == ("other", word)


async def test_a_reply_or_an_explanation_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.engine.checks.MOST_CHARACTERS", 100)
    monkeypatch.setattr("lrf.engine.checks.MOST_OF_JUDGEMENT", 100)
    check_reply(Reply("x" * 50, reasoning="x" * 50))
    with pytest.raises(BadReplyError, match="the reply has 101 characters; 100 are the most"):
        check_reply(Reply("x" * 50, reasoning="x" * 51))
    note, statement = Note(Span("a", 0, 3), "x" * 99), JudgedStatement("x", "yes", 1.0, analysis="x" * 99)
    for parts in (
        {"analysis": "x" * 101},
        {"extra": {"k": "x" * 99}},
        {"notes": (note,)},
        {"statements": (statement,)},
    ):
        with pytest.raises(ValueError, match=r"score\(\) gave \d+ characters of texts; 100 are the most"):
            check_judgement(Judgement(5.0, **parts), SAMPLE)  # type: ignore[arg-type]


async def test_a_judge_that_gives_no_reply_is_at_fault() -> None:
    class Silent(ScriptedJudge):
        async def complete(self, request: Any) -> Any:
            return None

    reward, _ = await scored(Asks(), Silent())
    assert reward.unscored is not None
    assert reward.unscored.reason == "judge_error"
    assert "Silent of tests" in reward.unscored.detail
    assert "not a NoneType" in reward.unscored.detail


def test_only_errors_of_the_machine_may_pass() -> None:
    wrapped = ValueError("no reply")
    wrapped.__cause__ = ConnectionResetError()
    assert all(map(is_passing, [wrapped, BrokenProcessPool(), ExceptionGroup("", [KeyError(), MemoryError()])]))
    circle = ValueError()
    circle.__cause__ = circle
    assert not any(map(is_passing, [circle, KeyError("x"), RuntimeError("a bug"), RecursionError()]))


async def test_what_can_not_be_closed_is_reported_hides_no_result_and_keeps_nothing_else_open() -> None:
    closed: list[str] = []

    class Stuck(Finds):
        def __init__(self, name: str) -> None:
            super().__init__([[A], [B]])
            self.name = name

        async def index(self, documents: Sequence[Document]) -> Stuck:
            return Stuck(f"index of {self.name}")

        async def aclose(self) -> None:
            closed.append(self.name)
            raise OSError("no")

    engine, faults = engine_of(Searches(), retrievers={"main": Stuck("main"), "other": Stuck("other")})
    async with closed_engine(engine):
        rewards = await engine.score(SAMPLE)
    assert [reward.reward for reward in rewards] == [5.0, 5.0]
    assert closed == ["index of main", "main", "other"]
    assert [fault.component for fault in faults] == [
        f"closing {title} (test_what_can_not_be_closed_is_reported_hides_no_result_and_keeps_nothing_else_open."
        "<locals>.Stuck of tests)"
        for title in ("an index of retrievers.main", "retrievers.main", "retrievers.other")
    ]


async def test_an_index_that_can_not_be_closed_does_not_hide_what_stops_the_run() -> None:
    class Stuck(Finds):
        async def aclose(self) -> None:
            raise OSError("no")

    with pytest.raises(StageError, match="aggregator"):
        await scored(Searches(), retriever=Stuck([[A], [B]]), aggregator=Raises(ValueError()))


async def test_a_dimension_that_hangs_is_named_and_ended_once_the_run_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrf.engine.running.QUIET_S", 0.2)
    at_work = asyncio.Event()

    class Hangs:
        async def score(self, *_: Any) -> Judgement:
            at_work.set()
            await asyncio.Event().wait()
            return Judgement(5.0)

    engine, _ = engine_of(Hangs())
    async with closed_engine(engine):
        scoring = asyncio.create_task(engine.score(SAMPLE))
        await at_work.wait()
        assert engine.running.oldest is not None
        assert engine.running.oldest.sample == "s"
        engine.drain(RunInterruptedError("stopped by SIGINT"))
        with pytest.raises(RunInterruptedError, match="stopped by SIGINT"):
            await scoring
    (note,) = engine.left.values()
    assert note is not None
    assert note.startswith("dimensions.d (")
    assert note.endswith("Hangs of tests) on sample s and 1 more didn't end and was cancelled")


def test_the_distribution_of_a_component_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def distributions() -> dict[str, list[str]]:
        looked_up.append(1)
        return {"parts_of_a_notebook": ["pytest"]}

    monkeypatch.setattr("lrf.engine.faults.packages_distributions", distributions)
    component = type("Part", (), {"__module__": "parts_of_a_notebook"})()
    names = {owned("judges.main", component) for _ in range(3)}
    assert names == {f"judges.main (Part of pytest {pytest.__version__})"}
    assert len(looked_up) == 1
