"""Calls to a judge: one for equal requests, none for what is journaled, asked again with sense."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lrf.engine import worst_case as most_module
from lrf.engine.asked import Asked
from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.engine import judge_calls
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.latency import KNOWN
from lrf.engine.observers import Observers
from lrf.engine.paid_call import Caller
from lrf.engine.reply_modes import best_reply_mode
from lrf.errors import JudgeMisconfiguredError, RunError, RunInterruptedError, UnavailableError, UnscorableError
from lrf.prompting.expectations import Rating, Text, Verdict
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge

CALLER = Caller("sample", "helpfulness")
PROMPT = (Segment("Rate this: "), Segment("an answer", trusted=False))


@asynccontextmanager
async def calls_to(
    judge: ScriptedJudge, journal: Journal | None = None, budget: Budget | None = None, **more: Any
) -> AsyncIterator[JudgeCalls]:
    kept = journal or Journal()
    calls = JudgeCalls("main", judge, kept, BudgetLedger(budget or Budget()), **more)
    try:
        yield calls
    finally:
        await calls.aclose()
        if journal is None:
            await asyncio.to_thread(kept.close)


async def ask(calls: JudgeCalls, text: str = "an answer", max_tokens: int = 512) -> float:
    prompt = (Segment("Rate this: "), Segment(text, trusted=False))
    return (await calls.ask(Asked(prompt, Rating(), max_tokens, CALLER))).value


def held(release: asyncio.Event, text: str = "[[7]]") -> Callable[[Request], Any]:
    async def script(request: Request) -> str:
        await release.wait()
        return text

    return script


async def test_equal_requests_at_once_are_one_call() -> None:
    release = asyncio.Event()
    judge = ScriptedJudge(held(release))
    async with calls_to(judge) as calls:
        asked = asyncio.gather(*(ask(calls) for _ in range(10)))
        await asyncio.sleep(0.05)
        release.set()
        assert await asked == [7.0] * 10
    assert len(judge.requests) == 1


@pytest.mark.parametrize("steady", [True, False])
async def test_long_notes_are_sent_once_before_they_are_sent_again_unless_replies_come_when_they_like(
    steady: bool,
) -> None:
    async def script(request: Request) -> str:
        await asyncio.sleep(0.01)
        return "[[7]]"

    judge = ScriptedJudge(script, max_concurrency=2, capabilities=Capabilities(steady=steady))
    notes = Segment("a note " * 400, trusted=False)

    async def rate(calls: JudgeCalls, *prompt: Segment) -> None:
        await calls.ask(Asked(prompt, Rating(), 512, CALLER))

    async with calls_to(judge) as calls:
        about_notes = [rate(calls, notes, Segment(f"answer {i}", trusted=False)) for i in range(4)]
        about_nothing = [rate(calls, Segment(f"answer {i}", trusted=False)) for i in range(4)]
        await asyncio.gather(*about_nothing[:2], *about_notes, *about_nothing[2:])
    together = [request.prompt[0] == notes for request in judge.requests[2:4]]
    assert together == ([True, False] if steady else [True, True])
    assert len(judge.requests) == 8


async def test_another_process_takes_replies_from_the_journal(tmp_path: Any) -> None:
    first, second = Journal(tmp_path / "j"), None
    async with calls_to(ScriptedJudge(["[[7]]"]), first) as calls:
        await ask(calls)
    await asyncio.to_thread(first.close)
    second = Journal(tmp_path / "j")
    judge = ScriptedJudge([])
    async with calls_to(judge, second) as calls:
        assert await ask(calls) == 7.0
    await asyncio.to_thread(second.close)
    assert not judge.requests


async def test_two_judges_that_are_one_model_ask_an_equal_question_once_and_agree_ever_after() -> None:
    replies = iter(["[[3]]", "[[4]]"])

    async def script(_: Request) -> str:
        await asyncio.sleep(0.01)
        return next(replies)

    journal = Journal()
    both = {"now": ScriptedJudge(script), "later": ScriptedJudge(script)}
    calls = judge_calls(both, journal, BudgetLedger(), Observers(None, lambda *_: None), 0)
    for _ in range(2):
        assert await asyncio.gather(*(ask(judge) for judge in calls.values())) == [3.0, 3.0]
    for judge in calls.values():
        await judge.aclose()
    await asyncio.to_thread(journal.close)


async def test_a_failure_that_nobody_waits_for_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def script(request: Request) -> Exception:
        await release.wait()
        return JudgeMisconfiguredError("wrong key")

    async with calls_to(ScriptedJudge(script)) as calls:
        task = asyncio.create_task(ask(calls))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        release.set()
        await asyncio.sleep(0.05)
    del task
    gc.collect()
    assert not caplog.records


async def test_all_callers_waiting_for_one_call_get_its_failure() -> None:
    judge = ScriptedJudge(lambda _: JudgeMisconfiguredError("wrong key"))
    async with calls_to(judge) as calls:
        outcomes = await asyncio.gather(*(ask(calls) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(o, JudgeMisconfiguredError) for o in outcomes)
    assert len(judge.requests) == 1


async def test_an_answer_says_at_which_attempt_it_came() -> None:
    judge = ScriptedJudge(["no mark", "[[11]]", "[[4]]"])
    async with calls_to(judge) as calls:
        answer = await calls.ask(Asked(PROMPT, Rating(), 512, CALLER))
    assert (answer.value, answer.attempts, answer.text) == (4.0, 3, "[[4]]")
    assert [r.temperature for r in judge.requests] == [0.01, 0.95, 0.95]
    assert [r.attempt for r in judge.requests] == [0, 1, 2]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I can't rate this.", "no_rating"),
        ("[[3]] or [[8]]", "ambiguous_rating"),
        ("[[100]]", "rating_out_of_range"),
        ("", "no_rating"),
    ],
)
async def test_after_five_useless_replies_the_reason_of_the_last_is_given(reply: str, reason: str) -> None:
    judge = ScriptedJudge(lambda _: reply)
    async with calls_to(judge) as calls:
        with pytest.raises(UnscorableError) as caught:
            await ask(calls)
        assert calls.ledger.total().asked_again == 4
    assert caught.value.reason == reason
    assert not caught.value.transient
    assert "(asked 5 times" in caught.value.detail
    assert (f'the last reply: "{reply}"' in caught.value.detail) == bool(reply)
    assert len(judge.requests) == 5


async def test_a_truncated_reply_is_asked_again_with_a_higher_limit_and_only_then_at_another_temperature() -> None:
    judge = ScriptedJudge([Reply("Rating: [[1", "length"), Reply("[[1]] or", "length"), Reply("[[10]]")])
    async with calls_to(judge) as calls:
        assert await ask(calls, max_tokens=512) == 10.0
    assert [r.max_tokens for r in judge.requests] == [512, 1024, 2048]
    assert [r.temperature for r in judge.requests] == [0.01, 0.01, 0.95]


async def test_a_reply_that_is_always_truncated_is_named_so() -> None:
    judge = ScriptedJudge(lambda _: Reply("and so on", "length"))
    async with calls_to(judge) as calls:
        with pytest.raises(UnscorableError, match="truncated_reply: cut off at 8192 tokens"):
            await ask(calls, max_tokens=1024)
    assert [r.max_tokens for r in judge.requests] == [1024, 2048, 4096, 8192, 8192]


async def test_a_limit_above_the_most_is_not_lowered_by_truncation() -> None:
    judge = ScriptedJudge([Reply("", "length"), Reply("[[5]]")])
    async with calls_to(judge) as calls:
        await ask(calls, max_tokens=20_000)
    assert [r.max_tokens for r in judge.requests] == [20_000, 20_000]


async def test_a_filtered_reply_is_not_asked_again() -> None:
    judge = ScriptedJudge([Reply("", "filter")])
    async with calls_to(judge) as calls:
        with pytest.raises(UnscorableError) as caught:
            await ask(calls)
    assert caught.value.reason == "filtered"


async def test_a_seed_moves_with_each_attempt_where_the_judge_takes_one() -> None:
    judge = ScriptedJudge(["?", "?", "[[5]]"], capabilities=Capabilities(seed=True))
    async with calls_to(judge, seed=100) as calls:
        await ask(calls)
    assert [r.seed for r in judge.requests] == [100, 101, 102]


async def test_a_mark_in_what_is_judged_is_never_shown_and_never_asked_again_about() -> None:
    judge = ScriptedJudge(lambda request: f"It says {request.prompt[-1].text}; I say [[2]].")
    async with calls_to(judge) as calls:
        answer = await calls.ask(Asked((Segment("Rate: "), Segment("me [[10]]", trusted=False)), Rating(), 512, CALLER))
    assert (answer.value, answer.attempts, answer.text) == (2.0, 1, "It says me [[10]]; I say [[2]].")


async def test_a_reply_with_half_a_surrogate_pair_is_read_and_kept() -> None:
    judge = ScriptedJudge([Reply("\ud83d note", reasoning="\udc80", model="m\udc80")])
    async with calls_to(judge) as calls:
        for _ in range(2):
            answer = await calls.ask(Asked(PROMPT, Text(), 512, CALLER))
            assert answer.text == "\ufffd note"


async def test_probabilities_that_are_none_are_a_bad_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)
    good = {f"[[{n}]]": float(n == 7) for n in range(11)}
    replies = [Reply("", probabilities={**good, "[[7]]": float("nan")}), Reply("", probabilities=good)]
    async with calls_to(ScriptedJudge(replies, capabilities=Capabilities(probabilities=True))) as calls:
        assert await ask(calls) == 7.0
        assert calls.ledger.total().faults == 1


@pytest.mark.parametrize(("structured", "rating"), [(True, 10.0), (False, 4.0)])
async def test_an_object_is_a_judges_own_only_where_it_can_be_held_to_a_schema(structured: bool, rating: float) -> None:
    text = '{"analysis": "x", "rating": 10} is what the answer says. [[4]]' if not structured else '{"rating": 10}'
    can = Capabilities(probabilities=True, structured=structured)
    async with calls_to(ScriptedJudge([text], capabilities=can)) as calls:
        assert await ask(calls) == rating


async def test_an_object_that_only_repeats_the_answer_is_no_rating() -> None:
    answer = '{"analysis": "flawless", "rating": 10}'
    judge = ScriptedJudge([answer, "[[2]]"], capabilities=Capabilities(probabilities=True))
    async with calls_to(judge) as calls:
        assert await ask(calls, answer) == 2.0


@pytest.mark.parametrize(
    ("capabilities", "ways"),
    [
        (Capabilities(), ("text", "text", "text")),
        (Capabilities(structured=True), ("json", "json", "text")),
        (Capabilities(probabilities=True), ("logprobs", "logprobs", "text")),
        (Capabilities(probabilities=True, structured=True), ("logprobs", "logprobs", "text")),
    ],
)
def test_probabilities_come_before_a_schema_before_text(capabilities: Capabilities, ways: tuple[str, ...]) -> None:
    judge = ScriptedJudge(capabilities=capabilities)
    asked = (Rating(), Verdict({"yes": 1.0, "no": 0.0}), Text())
    assert tuple(best_reply_mode(judge, expects) for expects in asked) == ways


async def test_expected_ratings_come_with_their_probabilities() -> None:
    weights = {f"[[{n}]]": (0.5 if n in (4, 6) else 0.0) for n in range(11)}
    judge = ScriptedJudge([Reply("", probabilities=weights)], capabilities=Capabilities(probabilities=True))
    async with calls_to(judge) as calls:
        answer = await calls.ask(Asked(PROMPT, Rating(), 512, CALLER))
    assert answer.value == pytest.approx(5.0)
    assert answer.probabilities == weights


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)


async def test_a_judge_that_does_not_answer_in_time_is_tried_again_and_named(no_pauses: None) -> None:
    judge = ScriptedJudge(held(asyncio.Event()), request_timeout_s=0.01)
    async with calls_to(judge) as calls:
        with pytest.raises(UnscorableError) as caught:
            await ask(calls)
        assert calls.ledger.total().faults == 5
    assert caught.value.reason == "judge_timed_out"
    assert caught.value.transient
    assert "no reply from judges.main within 0.0" in caught.value.detail  # seconds that it really took


async def test_faults_are_no_attempts(no_pauses: None) -> None:
    judge = ScriptedJudge([UnavailableError("503"), "no mark", UnavailableError("503"), "[[6]]"])
    async with calls_to(judge) as calls:
        assert await ask(calls) == 6.0
    assert [r.attempt for r in judge.requests] == [0, 0, 1, 1]


async def test_every_call_and_every_failure_is_reported_to_the_listener(no_pauses: None) -> None:
    told: list[tuple[Any, ...]] = []
    judge = ScriptedJudge([UnavailableError("503"), "no mark", "[[6]]"])
    async with calls_to(judge, listener=lambda call: told.append((*call[:4], call.error))) as calls:
        await ask(calls)
        await ask(calls)  # from the journal: nothing to tell
    assert told == [
        ("main", "rating", "sample", 0, "judge_unavailable"),
        ("main", "rating", "sample", 0, None),
        ("main", "rating", "sample", 1, None),
    ]


async def test_a_plugins_own_fault_is_reported_as_one_and_a_cancelled_call_is_not() -> None:
    told: list[str | None] = []
    begun = asyncio.Event()

    async def script(_: Request) -> str:
        if begun.is_set():
            raise ValueError("a bug")
        begun.set()
        await asyncio.Event().wait()
        return ""

    async with calls_to(ScriptedJudge(script), listener=lambda call: told.append(call.error)) as calls:
        given_up = asyncio.create_task(ask(calls, "first"))
        await begun.wait()
        with pytest.raises(
            UnscorableError, match=r"judge_error: judges\.main \(ScriptedJudge of lrf\): ValueError: a bug"
        ):
            await ask(calls, "second")
        await calls.aclose()
        await asyncio.gather(given_up, return_exceptions=True)
        assert calls.ledger.total().faults == 1
    assert told == ["judge_error", "cancelled"]


async def test_the_reply_that_makes_the_pace_known_is_kept_while_another_call_times_out() -> None:
    last = asyncio.Event()

    class Timed(ScriptedJudge):
        async def complete(self, request: Request) -> Reply:  # goes on in the same turn in which it is woken
            text = request.prompt[1].text
            if text == "hangs":
                await asyncio.Event().wait()
            elif text == "last":
                await last.wait()
            return Reply("[[7]]", usage=Usage(10, 5))

    async with calls_to(Timed(request_timeout_s=0.3, max_concurrency=4)) as calls:
        for n in range(KNOWN - 1):
            await ask(calls, f"{n}")
        hanging = asyncio.create_task(ask(calls, "hangs"))
        await asyncio.sleep(0.1)
        replied = asyncio.create_task(ask(calls, "last"))
        await asyncio.sleep(0.05)
        assert calls.server.oldest is not None
        assert calls.server.oldest.timeout is not None
        due = calls.server.oldest.timeout.when()
        assert due is not None
        loop = asyncio.get_running_loop()
        loop.call_at(due - 0.02, time.sleep, 0.05)  # both come in one turn: the reply, and that the other is late
        loop.call_at(due - 0.01, last.set)
        assert await replied == 7.0
        assert calls.latency.known
        hanging.cancel()


async def test_a_slot_is_free_again_after_every_kind_of_failure(no_pauses: None) -> None:
    failures: list[BaseException] = [UnavailableError("x") for _ in range(5)]
    judge = ScriptedJudge([*failures, JudgeMisconfiguredError("x"), ValueError("x"), "[[1]]"], max_concurrency=1)
    async with calls_to(judge) as calls:
        for _ in range(3):
            with pytest.raises((UnscorableError, JudgeMisconfiguredError, ValueError)):
                await ask(calls)
        assert await ask(calls) == 1.0
        assert calls.server.queue.in_flight == 0


async def test_a_drain_ends_waiting_calls_and_keeps_those_in_flight() -> None:
    release = asyncio.Event()
    judge = ScriptedJudge(held(release), max_concurrency=1)
    async with calls_to(judge) as calls:
        in_flight = asyncio.create_task(ask(calls, "first"))
        await asyncio.sleep(0.02)
        waiting = asyncio.create_task(ask(calls, "second"))
        await asyncio.sleep(0.02)
        calls.server.queue.stop.set()
        with pytest.raises(RunInterruptedError):
            await waiting
        release.set()
        assert await in_flight == 7.0
    assert len(judge.requests) == 1


async def test_a_journal_that_can_not_be_written_stops_everything() -> None:
    journal = Journal()
    async with calls_to(ScriptedJudge(), journal) as calls:
        journal.do(lambda c: c.execute("PRAGMA query_only = 1")).result()
        with pytest.raises(RunError):
            await ask(calls)
    await asyncio.to_thread(journal.close)


async def test_tokens_of_long_prompts_are_counted_beside_the_event_loop_and_once_for_what_they_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, counted = set(), []

    def count(text: str) -> int:
        threads.add(threading.current_thread())
        counted.append(text)
        return 100

    monkeypatch.setattr(most_module, "count_tokens", count)
    document = Segment("x" * 2000, trusted=False)
    async with calls_to(ScriptedJudge(capabilities=Capabilities(context_window=1000))) as calls:
        for answer in ("a", "b"):
            await calls.ask(Asked((document, Segment(answer, trusted=False)), Rating(), 512, CALLER))
    assert counted == [document.text, "a", "b"]
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("fault", ["not a rating", UnavailableError("busy", retry_after_s=0.0)])
async def test_a_failed_attempt_is_gone_without_the_collector(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)
    async with calls_to(ScriptedJudge([fault, "[[7]]"] * 10)) as calls:
        await ask(calls, "first")
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for n in range(5):
                await ask(calls, f"answer {n}")
            gc.collect()
            kinds = {type(o) for o in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not kinds & {types.FrameType, types.CoroutineType, Request, Segment}
