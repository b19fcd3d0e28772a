"""lrf as a library: reward models of objects, of blocks and of pipelines, from any kind of code."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.errors import ConfigError, JudgeMisconfiguredError, PluginError, RunInterruptedError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.protocols import Context
from lrf.testing import HashEmbedder, ScriptedJudge
from lrf.types import Candidate, Document, Judgement, Message, Sample
from project import Project

DOCUMENT = "The bridge was opened in 1931. It is 200 metres long. " * 5


class Length:
    """A dimension without a judge: the longer, the better."""

    name = "length"

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(min(10.0, float(len(candidate.text))))


class AsksOnce:
    """A dimension that asks the judge once."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        prompt = (Segment("Rate: "), Segment(candidate.text, trusted=False))
        return Judgement((await ctx.ask(prompt, Rating())).value)


class Lowest:
    def aggregate(self, ratings: Any) -> float | None:
        return None if None in ratings.values() else min(ratings.values())


def samples(number: int) -> list[Sample]:
    return [Sample(f"s{i}", "?", (Document("0", DOCUMENT),), (Candidate("c", f"answer {i}"),)) for i in range(number)]


ASKED = {"context": DOCUMENT, "query": "How long is the bridge?", "answer": "It is 200 m."}


# --- made of what ---------------------------------------------------------------------------------------------------


async def test_a_reward_model_of_objects_scores_an_answer() -> None:
    judge = ScriptedJudge(lambda _: "[[4]]")
    async with lrf.RewardModel(judge, [Length(), AsksOnce()], aggregator=Lowest()) as model:
        reward = await model.score(context=DOCUMENT, query="?", answer="short")
    assert reward.ratings == {"length": 5.0, "AsksOnce": 4.0}
    assert reward.reward == 4.0
    assert judge.closed


async def test_documents_of_the_same_id_are_refused_since_evidence_could_not_name_them() -> None:
    same = Sample("s", "?", (Document("0", "One."), Document("0", "Two.")), (Candidate("c", "An answer."),))
    async with lrf.RewardModel(ScriptedJudge(), [Length()]) as model:
        with pytest.raises(ConfigError, match="sample 's': two documents have the same id"):
            await model.score_sample(same)
        assert (await model.score(**ASKED)).reward is not None


async def test_a_reward_model_of_names_has_the_four_dimensions_of_longreward() -> None:
    async with lrf.RewardModel(ScriptedJudge(), retriever="memory", embedder=HashEmbedder()) as model:
        reward = await model.score(**ASKED)
    assert list(reward.ratings) == ["helpfulness", "logicality", "faithfulness", "completeness"]
    assert reward.reward == 5.0
    faithfulness = reward.judgements["faithfulness"]
    assert isinstance(faithfulness, Judgement)
    assert faithfulness.statements[0].evidence


async def test_a_reward_model_of_blocks_asks_a_server(judge_server: JudgeServer) -> None:
    endpoint = {"type": "openai", "base_url": judge_server.base_url, "model": "sim"}
    model = lrf.RewardModel(
        endpoint,
        ["helpfulness", {"type": "faithfulness", "top_k": 2}],
        retriever={"type": "memory", "chunk_tokens": 16},
        embedder=endpoint,
        aggregator={"type": "weighted", "weights": {"helpfulness": 3, "faithfulness": 1}},
    )
    async with model:
        reward = await model.score(**ASKED)
    ratings = reward.ratings
    assert reward.reward == pytest.approx((3 * ratings["helpfulness"] + ratings["faithfulness"]) / 4)  # type: ignore[operator]
    assert judge_server.books.calls > 2


async def test_a_reward_model_of_a_pipeline_rates_like_a_run_of_it(project: Project) -> None:
    assert lrf.run(project.pipeline(), runs=project.runs).exit_code == 0
    rewards = {r["candidate_id"]: r["reward"] for r in project.lines("rewards.jsonl")[:5]}
    async with lrf.RewardModel.from_pipeline(project.write(project.pipeline())) as model:
        from project import sample_row

        row = sample_row(0)
        for candidate in row["candidates"]:
            reward = await model.score(context=row["context"], query=row["query"], answer=candidate["text"])
            assert reward.reward == rewards[candidate["id"]]


def test_a_pipeline_may_be_a_mapping(project: Project) -> None:
    with lrf.RewardModel.from_pipeline(project.pipeline(data=None, pairs=None)) as model:
        assert model.score_sync(**ASKED).reward is not None


async def test_the_turns_of_a_dialogue_may_be_the_context() -> None:
    seen: list[Sample] = []

    class Watching(Length):
        async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            seen.append(sample)
            return await super().score(sample, candidate, ctx)

    turns = [Message("user", "When was it opened?"), Message("assistant", "In 1931.")]
    with lrf.RewardModel(dimensions=[Watching()]) as model:
        reward = await model.score(context=turns, query="How long is it?", answer="200 m")
        with pytest.raises(ConfigError, match="turns that are not empty"):
            await model.score(context=[Message("user", " ")], query="q", answer="a")
    assert reward.reward == 5.0
    assert [(d.id, d.text) for d in seen[0].documents] == [("turn-0", "When was it opened?"), ("turn-1", "In 1931.")]


async def test_documents_may_be_given_one_by_one() -> None:
    judge = ScriptedJudge()
    documents = [Document("a", "Text of a.", "Title A"), Document("b", "Text of b.")]
    async with lrf.RewardModel(judge, ["completeness"]) as model:
        reward = await model.score(context=documents, query="?", answer="x")
    judged = reward.judgements["completeness"]
    assert isinstance(judged, Judgement)
    assert [note.span.document for note in judged.notes] == ["a", "b"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"dimensions": []}, "at least one"),
        ({"dimensions": [Length(), Length()]}, "different names"),
        ({"dimensions": ["helpfulness"]}, r"needs a judge: RewardModel\(judge=…\)"),
        ({"judge": ScriptedJudge(), "dimensions": ["faithfulness"]}, r"needs a retriever: RewardModel\(retriever=…\)"),
        ({"dimensions": [Length()], "retriever": "memory"}, r"needs an embedder: RewardModel\(…, embedder=…\)"),
        ({"judge": ScriptedJudge(), "dimensions": ["helpfullness"]}, "helpfulness"),
        ({"judge": {"type": "openai", "modle": "x"}, "dimensions": ["helpfulness"]}, "model"),
        ({"dimensions": [Length()], "aggregator": "median"}, "mean"),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: dict[str, Any], message: str) -> None:
    threads = threading.active_count()
    with pytest.raises((ConfigError, PluginError), match=message):
        lrf.RewardModel(**parts)
    assert threading.active_count() == threads


def test_a_pipeline_without_dimensions_can_not_score(project: Project) -> None:
    with pytest.raises(ConfigError, match="dimensions"):
        lrf.RewardModel.from_pipeline(project.pipeline(dimensions=None, judges=None))


@pytest.mark.parametrize("context", ["", "  \n", []])
async def test_an_empty_context_is_refused(context: Any) -> None:
    async with lrf.RewardModel(dimensions=[Length()]) as model:
        with pytest.raises(ConfigError, match="context"):
            await model.score(context=context, query="?", answer="x")


# --- asked from where -----------------------------------------------------------------------------------------------


def test_the_synchronous_twin_works_without_a_loop() -> None:
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:
        assert model.score_sync(**ASKED).reward == 5.0


async def test_the_synchronous_twin_works_inside_a_running_loop() -> None:
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:
        assert model.score_sync(**ASKED).reward == 5.0
        assert model.score_sample_sync(samples(1)[0])[0].reward == 5.0


def test_one_model_serves_many_loops_and_threads() -> None:
    rewards: list[float | None] = []
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:

        def work(number: int) -> None:
            reward = asyncio.run(model.score(context=DOCUMENT, query="?", answer=str(number)))
            rewards.append(reward.reward)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert rewards == [5.0] * 8


async def test_a_sample_gives_a_reward_for_each_candidate_in_order() -> None:
    sample = Sample("s", "?", (Document("0", DOCUMENT),), tuple(Candidate(str(i), "x" * i) for i in range(5)))
    async with lrf.RewardModel(dimensions=[Length()]) as model:
        rewards = await model.score_sample(sample)
    assert [(r.candidate_id, r.reward) for r in rewards] == [(str(i), float(i)) for i in range(5)]


# --- many -----------------------------------------------------------------------------------------------------------


async def test_many_samples_come_in_their_order_whatever_the_order_of_replies() -> None:
    async def script(request: Request) -> str:
        number = int(request.prompt[1].text.split()[1])
        await asyncio.sleep(0.02 if number % 3 == 0 else 0.001)
        return f"[[{number % 10}]]"

    async with lrf.RewardModel(ScriptedJudge(script), [AsksOnce()]) as model:
        found = [rewards async for rewards in model.score_many(samples(30))]
    assert [r[0].sample_id for r in found] == [f"s{i}" for i in range(30)]
    assert [r[0].reward for r in found] == [float(i % 10) for i in range(30)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_input_is_read_no_faster_than_samples_are_open(asynchronous: bool) -> None:
    read = taken = 0
    most = 0

    def rows() -> Iterator[Sample]:
        nonlocal read, most
        for sample in samples(40):
            read += 1
            most = max(most, read - taken)
            yield sample

    async def async_rows() -> AsyncIterator[Sample]:
        for sample in rows():
            yield sample

    async with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:
        async for _ in model.score_many(async_rows() if asynchronous else rows(), open_samples=4):
            taken += 1
    assert taken == 40
    assert most <= 5


async def test_a_stream_that_is_left_early_stops_asking() -> None:
    judge = ScriptedJudge(max_concurrency=1)
    async with lrf.RewardModel(judge, [AsksOnce()]) as model:
        stream = model.score_many(samples(200), open_samples=4)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        assert len(judge.requests) <= 6


# --- costs, journal, end --------------------------------------------------------------------------------------------


def test_equal_questions_cost_once_and_costs_are_reported() -> None:
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:
        for _ in range(3):
            model.score_sync(**ASKED)
        assert model.costs["calls"] == 1
        assert model.costs["reused"] == 2


def test_a_journal_file_is_used_again_by_the_next_model(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()], journal=file) as model:
        first = model.score_sync(**ASKED)
    judge = ScriptedJudge([])
    with lrf.RewardModel(judge, [AsksOnce()], journal=str(file)) as model:
        assert model.score_sync(**ASKED) == first
    assert not judge.requests
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT count(*) FROM replies").fetchone() == (1,)
    connection.close()


def test_models_that_are_open_at_once_share_a_journal_file(tmp_path: Path) -> None:
    judge = ScriptedJudge([])
    parts: dict[str, Any] = {"dimensions": [AsksOnce()], "journal": tmp_path / "journal.sqlite"}
    with lrf.RewardModel(ScriptedJudge(), **parts) as first, lrf.RewardModel(judge, **parts) as second:
        assert first.score_sync(**ASKED) == second.score_sync(**ASKED)
    assert not judge.requests


def test_a_closed_model_says_so_and_can_be_closed_again() -> None:
    model = lrf.RewardModel(dimensions=[Length()])
    model.close()
    model.close()
    with pytest.raises(ConfigError, match="closed"):
        model.score_sync(**ASKED)


def test_closing_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with lrf.RewardModel(ScriptedJudge(), [AsksOnce()]) as model:
        model.score_sync(**ASKED)
    assert {t for t in threading.enumerate() if t.name.startswith("lrf")} <= before


def test_nothing_is_taken_in_while_a_model_is_being_closed_so_that_nobody_waits_for_ever() -> None:
    model = lrf.RewardModel(dimensions=[Length()])
    outcomes = []

    def ask() -> None:
        try:
            model.score_sync(**ASKED)
        except lrf.LrfError as error:
            outcomes.append(str(error))

    def late() -> None:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(10)

    model._engine.observers.close = late  # type: ignore[method-assign]
    model.close()
    assert outcomes == ["this reward model is closed"]


def test_a_caller_waiting_when_a_model_is_closed_gets_an_error() -> None:
    asked = threading.Event()

    async def never(request: Request) -> str:
        asked.set()
        await asyncio.sleep(3600)
        return ""

    model = lrf.RewardModel(ScriptedJudge(never), [AsksOnce()])
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            model.score_sync(**ASKED)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert asked.wait(10)
    model.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(outcome[0], RunInterruptedError)


async def test_what_stops_all_scoring_is_raised_each_time_with_its_reason() -> None:
    judge = ScriptedJudge(lambda _: JudgeMisconfiguredError("the key is wrong"))
    async with lrf.RewardModel(judge, [AsksOnce()]) as model:
        for _ in range(2):
            with pytest.raises(JudgeMisconfiguredError, match="the key is wrong"):
                await model.score(**ASKED)


async def test_an_answer_that_can_not_be_scored_has_a_reason_and_no_reward() -> None:
    async with lrf.RewardModel(ScriptedJudge(lambda _: "no idea"), [AsksOnce()]) as model:
        reward = await model.score(**ASKED)
    assert reward.reward is None
    assert reward.unscored is not None
    assert reward.unscored.reason == "no_rating"


async def test_a_reward_model_works_again_after_an_error_that_stopped_it() -> None:
    replies = iter([JudgeMisconfiguredError("no such model"), "[[7]]"])

    def answer(_: Request) -> str:
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    with lrf.RewardModel(ScriptedJudge(answer), [AsksOnce()]) as model:
        with pytest.raises(JudgeMisconfiguredError):
            await model.score(**ASKED)
        assert (await model.score(**ASKED)).reward == 7.0


FORKED = """
import os, signal, lrf
from lrf.testing import ScriptedJudge

model = lrf.RewardModel(ScriptedJudge(), ["helpfulness"])
ask = lambda: model.score_sync(context="A long text.", query="What?", answer="That.").reward
print("before", ask(), flush=True)
if not os.fork():
    signal.alarm(20)
    try:
        ask()
    except lrf.RunError as error:
        print("child", error, flush=True)
    model.close()
    os._exit(0)
print("status", os.wait()[1], flush=True)
print("after", ask())
model.close()
"""


def test_a_reward_model_that_is_used_after_a_fork_says_what_to_do_and_its_own_process_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    before, child, status, after = done.stdout.splitlines()
    assert "make the model in the new process (after the fork), or use one process" in child, done.stderr
    assert status == "status 0"
    assert before.split()[1] == after.split()[1]
