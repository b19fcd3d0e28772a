"""The functions by which training stacks ask for rewards: a server or a pipeline, groups, and what is missing."""

from __future__ import annotations

import asyncio
import atexit
import json
import math
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import JudgeServer
from lrf.errors import RunError
from lrf.rows.document_store import document_id
from lrf_doors import areal, inspect, ms_swift, source, trl, verifiers, verl
from lrf_doors.remote import RefusedError
from lrf_doors.shaping import Shape
from lrf_doors.source import MissingRewardError
from project import Project, sample_row
from reward_server import Client, serve_here

ROWS = [sample_row(0, 3), sample_row(1, 3)]
CONTEXTS = [row["context"] for row in ROWS for _ in row["candidates"]]
QUERIES = [row["query"] for row in ROWS for _ in row["candidates"]]
ANSWERS = [c["text"] for row in ROWS for c in row["candidates"]]
PROMPTS = [f"{context}\n\n{query}" for context, query in zip(CONTEXTS, QUERIES, strict=True)]


@pytest.fixture
def pipeline(project: Project) -> Path:
    return project.write(project.pipeline())


@pytest.fixture
async def server(project: Project, pipeline: Path) -> AsyncIterator[Client]:
    async with serve_here(pipeline, project.runs) as running:
        yield running


async def asked(function: trl.RewardFunction, **columns: Any) -> list[float | None]:
    return await function(prompts=PROMPTS, completions=ANSWERS, completion_ids=[[1]] * 6, trainer_state=None, **columns)


async def test_trl_gets_the_same_rewards_by_columns_by_prompt_and_by_turns(server: Client) -> None:
    by_columns = await asked(trl.reward_func(server.url), context=CONTEXTS, query=QUERIES)
    assert None not in by_columns
    function = pickle.loads(pickle.dumps(trl.reward_func(server.url)))
    assert function.__name__ == "lrf_reward"
    assert await asked(function) == by_columns
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    said = [[{"role": "assistant", "content": answer}] for answer in ANSWERS]
    assert await function(turns, said) == by_columns
    requests = [
        line for line in (await server.get("/metrics"))[1].splitlines() if 'door="/v1/rewards",status="200"' in line
    ]
    assert requests[0].endswith(" 6.0")  # one for each document and question, not for each answer


async def test_trls_rewards_may_be_ranks_within_a_prompts_group_or_one_dimensions_ratings(server: Client) -> None:
    ranks = await asked(trl.reward_func(server.url, shape=Shape("rank")))
    assert math.isclose(sum(r or 0 for r in ranks[:3]), 0, abs_tol=1e-9)
    one, other = [await asked(trl.reward_func(server.url, dimension=d)) for d in ("helpfulness", "logicality")]
    rewards = await asked(trl.reward_func(server.url))
    assert [(a + b) / 2 for a, b in zip(one, other, strict=True)] == rewards  # type: ignore[operator]


async def test_a_missing_reward_is_none_for_grpo_and_an_error_where_the_stack_has_no_word(
    server: Client, judge_server: JudgeServer
) -> None:
    judge_server.fault("garbage", None, lambda prompt: ANSWERS[0] in prompt and "logic" in prompt.lower())
    expected = [True, False, False, False, False, False]
    assert [reward is None for reward in await asked(trl.reward_func(server.url))] == expected
    # the dimension that could be rated is missing, too: TRL adds up what there is, so it would count as 0 otherwise
    helpful = await asked(trl.reward_func(server.url, dimension="helpfulness"))
    assert [reward is None for reward in helpful] == expected
    with pytest.raises(MissingRewardError, match="no_rating"):
        await asyncio.to_thread(trl.sync_reward_func(server.url), PROMPTS, ANSWERS)
    stand_in = await asyncio.to_thread(trl.sync_reward_func(server.url, on_missing=-1.0), PROMPTS, ANSWERS)
    assert stand_in[0] == -1.0
    row = {"data_source": "d", "solution_str": ANSWERS[0], "ground_truth": "42", "extra_info": {"prompt": PROMPTS[0]}}
    with pytest.raises(MissingRewardError):
        await verl.compute_score(**row, where=server.url)
    stood = await verl.compute_score(**row, where=server.url, on_missing=-1.0)
    assert (stood["score"], stood["missing"]) == (-1.0, 1.0)
    scored = await verl.compute_score(**{**row, "solution_str": ANSWERS[1]}, where=server.url)
    assert scored.keys() == stood.keys() == {"score", "missing", "helpfulness", "logicality"}
    with pytest.raises(MissingRewardError):
        await asyncio.to_thread(areal.RewardFunction(server.url), PROMPTS[0], ANSWERS[0])


async def test_documents_are_named_in_the_columns_that_each_stack_has(server: Client) -> None:
    await server.post("/v1/documents", {"text": CONTEXTS[0]})
    (expected, *_) = await asked(trl.reward_func(server.url))
    label = json.dumps({"document_id": document_id(CONTEXTS[0]), "question": QUERIES[0]})
    got = await verl.compute_score("d", ANSWERS[0], label, {"index": 3}, where=server.url)
    assert got["score"] == expected
    named = {"extra_info": {"document_ids": [document_id(CONTEXTS[0])], "query": QUERIES[0]}}
    assert await asyncio.to_thread(areal.RewardFunction(server.url), "chat", ANSWERS[0], **named) == expected
    data = SimpleNamespace(model_dump=lambda mode: {"prompt": PROMPTS[0], "idx": 0})
    said = SimpleNamespace(message=SimpleNamespace(role="assistant", content=ANSWERS[0]))
    trace = SimpleNamespace(nodes=[said], root_reply=None)
    assert await verifiers.reward(server.url, data, trace) == expected


async def test_what_the_server_refuses_is_raised_with_its_sentence_and_a_deadline_is_kept(server: Client) -> None:
    with pytest.raises(RefusedError, match="isn't in it"):
        await trl.reward_func(server.url)(["no document"], ["a"])
    away = trl.reward_func("http://127.0.0.1:9", deadline_s=0.3)
    assert await away(PROMPTS[:1], ANSWERS[:1]) == [None]


async def test_a_judge_that_can_answer_nothing_stops_the_training_whatever_on_missing_says(
    server: Client, judge_server: JudgeServer
) -> None:
    judge_server.fault("401", None)
    with pytest.raises(RefusedError, match="scoring is stopped"):
        await asked(trl.reward_func(server.url, on_missing="missing"))
    row = {"prompt": PROMPTS[0], "response": ANSWERS[0], "label": None}
    status, said = await server.post("/doors/slime?on_missing=value&missing_value=0", row)
    assert (status, said["error"].startswith("scoring is stopped")) == (503, True)


def in_a_fork(function: trl.SyncRewardFunction) -> list[float | None]:
    return function(PROMPTS[:1], ANSWERS[:1])


async def test_a_function_that_was_used_works_in_a_forked_process(server: Client) -> None:
    function = trl.sync_reward_func(server.url)
    here = await asyncio.to_thread(in_a_fork, function)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert await asyncio.to_thread(pool.apply, in_a_fork, (function,)) == here


@pytest.fixture
def opened_here() -> Iterator[None]:
    """Closes the pipelines that are opened in this process."""
    before = set(source._open)
    yield
    for key in set(source._open) - before:
        opened = source._open.pop(key)
        opened._close()
        atexit.unregister(opened._close)


def test_a_pipelines_path_is_for_one_process(
    project: Project, pipeline: Path, judge_server: JudgeServer, opened_here: None
) -> None:
    here = trl.sync_reward_func(str(pipeline), runs=str(project.runs))
    judge_server.fault("garbage", None, lambda prompt: ANSWERS[1] in prompt)
    (reward,) = here(PROMPTS[:1], ANSWERS[:1])
    assert reward is not None
    with pytest.raises(MissingRewardError, match="no reward: no_rating"):
        here(PROMPTS[1:2], ANSWERS[1:2])
    with pytest.raises(RunError, match="start `lrf serve"):
        source.LocalClient(str(pipeline), str(project.runs))
    judge_server.delay_s = 1.0
    hurried = trl.sync_reward_func(str(pipeline), runs=str(project.runs), deadline_s=0.05, on_missing=-1.0)
    assert hurried(PROMPTS[2:3], ANSWERS[2:3]) == [-1.0]


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A module of a stack that can't be installed beside the others."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


async def test_inspects_score_of_a_missing_reward_counts_in_no_metric(
    server: Client, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = type("Score", (SimpleNamespace,), {"unscored": classmethod(lambda cls, **given: cls(value=None, **given))})
    decorated = {"scorer": lambda **_: lambda made: made, "mean": lambda: "mean", "stderr": lambda: "stderr"}
    stand_in(monkeypatch, "inspect_ai.scorer", Score=score, **decorated)
    judge_server.fault("garbage", None, lambda prompt: ANSWERS[1] in prompt)
    scorer = inspect.reward_scorer(server.url)
    state = SimpleNamespace(input_text="chat", metadata={"context": CONTEXTS[0], "query": QUERIES[0]})
    scores = []
    for answer in ANSWERS[:2]:
        state.output = SimpleNamespace(completion=answer)
        scores.append(await scorer(state, None))
    assert scores[0].value == sum(scores[0].metadata["ratings"].values()) / 2
    assert (scores[1].value, scores[1].reason.startswith("no_rating")) == (None, True)


async def test_ms_swift_hands_on_the_turns_before_the_completion(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "swift.rewards", AsyncORM=object)
    rewards = ms_swift.reward(server.url)()
    turns = [{"role": "user", "content": PROMPTS[0]}]
    said = {"role": "assistant", "content": ANSWERS[0]}
    (alone,) = await asked_of_one(server)
    assert await rewards([ANSWERS[0]], messages=[[*turns, said]]) == [alone]
    assert await rewards([ANSWERS[0]], context=[CONTEXTS[0]], query=[QUERIES[0]]) == [alone]


async def asked_of_one(server: Client) -> list[float | None]:
    return await trl.reward_func(server.url)(PROMPTS[:1], ANSWERS[:1])


async def test_verls_reward_manager_asks_the_source_it_was_registered_with(
    server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Naive:
        def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None) -> None:
            self.compute_score = compute_score

    registered: dict[str, Any] = {}
    package = "verl.experimental.reward_loop.reward_manager"
    stand_in(monkeypatch, f"{package}.naive", NaiveRewardManager=Naive)
    stand_in(monkeypatch, package, register=lambda name: lambda made: registered.setdefault(name, made))
    assert verl.register_reward_manager(server.url, "rewards") is registered["rewards"]
    manager = registered["rewards"](None, None)
    scored = await manager.compute_score("d", ANSWERS[0], None, {"prompt": PROMPTS[0]})
    assert [scored["score"]] == await asked_of_one(server)


numbers = st.lists(st.none() | st.floats(0, 10), min_size=1, max_size=8)


@given(numbers, st.data())
def test_a_shaped_group_keeps_what_is_missing_and_the_order_of_the_rest(rewards: list[Any], data: Any) -> None:
    lengths = data.draw(st.lists(st.integers(0, 5000), min_size=len(rewards), max_size=len(rewards)))
    for shape in (Shape(), Shape("centred"), Shape("rank", clip=(-0.5, 0.5)), Shape("rank")):
        shaped = shape(rewards, lengths)
        assert [value is None for value in shaped] == [reward is None for reward in rewards]
        there = [(r, s) for r, s in zip(rewards, shaped, strict=True) if r is not None and s is not None]
        assert all(s <= t for r, s in there for q, t in there if r < q)
    ranks = [value for value in Shape("rank")(rewards, lengths) if value is not None]
    assert abs(sum(ranks)) < 1e-9
    assert all(-1 <= value <= 1 for value in ranks)


def test_length_alone_gains_nothing_in_a_length_controlled_group() -> None:
    lengths = [100, 200, 300, 400]
    flat = Shape(length_controlled=True)([1.0, 2.0, 3.0, 4.0], lengths)
    assert flat == pytest.approx([2.5] * 4)
    better = Shape(length_controlled=True)([1.0, 5.0, 3.0, None, 4.0], [*lengths[:3], 0, 400])
    assert better[1] == max(value for value in better if value is not None)
    assert better[3] is None


@pytest.mark.slow
def test_trls_own_trainers_end_without_a_made_up_zero_when_the_judge_fails() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "train_on_rewards.py"
    done = subprocess.run(
        [sys.executable, str(script), "--steps", "3", "--failing", "0.2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout[done.stdout.index("{\n") :])
    for name in ("grpo", "online_dpo"):
        assert figures[name]["missing"] > 0
        assert (figures[name]["zeros_made_up"], figures[name]["steps"], figures[name]["losses_finite"]) == (0, 3, True)
