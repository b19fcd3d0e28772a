"""The doors of ``lrf serve`` as each stack's own code asks them: every field that it sends, and what it then reads.

The stacks themselves need GPUs or don't install here; the requests are those of their newest sources, field by field.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from judge_server import JudgeServer
from lrf.rows.document_store import document_id
from project import Project, sample_row
from reward_server import Client, serve_here

ROW = sample_row(0)
DOCUMENT, QUERY = ROW["context"], ROW["query"]
ANSWERS = [c["text"] for c in ROW["candidates"]]
PLAIN_PROMPT = f"{DOCUMENT}\n\n{QUERY}"
PROMPT = f"<|im_start|>user\n{PLAIN_PROMPT}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
async def server(project: Project) -> AsyncIterator[Client]:
    async with serve_here(project.write(project.pipeline()), project.runs) as running:
        yield running


async def own(server: Client, answers: list[str]) -> list[Any]:
    """What lrf's own API says of these answers."""
    asked = {"query": QUERY, "context": DOCUMENT, "answers": answers}
    return list((await server.post("/v1/rewards", asked))[1]["rewards"])


async def openrlhf(server: Client, query: list[str], prompts: list[str], labels: list[Any]) -> tuple[float, Any, Any]:
    """As ``SingleTurnAgentExecutor``: the rewards, scores and logs that it takes; an error status raises."""
    payload = {"query": query, "prompts": prompts, "labels": labels}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/doors/openrlhf", json=payload) as response,
    ):
        response.raise_for_status()
        info = await response.json()
    return info.get("rewards"), info.get("scores") or info.get("rewards"), info.get("extra_logs") or {}


async def test_openrlhf_sends_one_sample_a_request_and_empty_lists_to_the_servers_that_are_left_over(
    server: Client, judge_server: JudgeServer
) -> None:
    (reward,) = await own(server, ANSWERS[:1])
    rewards, scores, logs = await openrlhf(server, [f"{PROMPT}{ANSWERS[0]}<|im_end|>"], [PROMPT], ["42"])
    assert (rewards, scores) == ([reward["reward"]], [reward["reward"] / 10])
    assert logs == {name: [rating] for name, rating in reward["ratings"].items()}
    assert await openrlhf(server, [], [], []) == ([], [], {})
    judge_server.fault("garbage", None)
    with pytest.raises(aiohttp.ClientResponseError, match="503"):
        await openrlhf(server, [f"{PROMPT}no"], [PROMPT], [None])
    door = "/doors/openrlhf?on_missing=value&missing_value=-1"
    _, stood = await server.post(door, {"query": [f"{PROMPT}no"], "prompts": [PROMPT], "labels": [None]})
    assert stood["rewards"] == [-1.0]


async def test_slime_sends_a_prompt_as_text_or_turns_and_takes_the_body_as_the_reward(
    server: Client, judge_server: JudgeServer
) -> None:
    (reward,) = await own(server, ANSWERS[:1])
    label = json.dumps({"document_id": document_id(DOCUMENT), "question": QUERY})
    turns = [{"role": "user", "content": PLAIN_PROMPT}]
    for prompt, given in ((PROMPT, None), (turns, None), ("another text", label)):
        status, body = await server.post("/doors/slime", {"prompt": prompt, "response": ANSWERS[0], "label": given})
        assert (status, body) == (200, reward["reward"])
    judge_server.fault("garbage", None)
    status, body = await server.post("/doors/slime", {"prompt": PROMPT, "response": "no", "label": None})
    assert (status, body["error"][:25]) == (503, "no reward (no_rating): he")


async def test_llama_factory_sends_whole_chats_and_finds_no_scores_where_one_is_missing(
    server: Client, judge_server: JudgeServer
) -> None:
    rewards = await own(server, ANSWERS)
    payload = {"model": "model", "messages": [f"{PROMPT}{text}<|im_end|>\n" for text in ANSWERS]}
    _, body = await server.post("/doors/llama_factory", payload)
    assert body["scores"] == [one["reward"] for one in rewards]
    judge_server.fault("garbage", None)
    _, body = await server.post("/doors/llama_factory", {"model": "model", "messages": [f"{PROMPT}no<|im_end|>\n"]})
    assert "scores" not in body  # it looks at no status: KeyError then ends its training


def verify_request(answer: str) -> dict[str, Any]:
    """NeMo Gym's ``BaseVerifyRequest`` as JSON, with fields of a task of its own."""
    content = [{"annotations": [], "text": answer, "type": "output_text", "logprobs": None}]
    said = {"id": "msg_1", "content": content, "role": "assistant", "status": "completed", "type": "message"}
    thought = {"id": "rs_1", "type": "reasoning", "summary": [{"text": "Hm.", "type": "summary_text"}]}
    return {
        "responses_create_params": {
            "input": [{"role": "user", "content": PLAIN_PROMPT, "type": "message"}],
            "model": None, "parallel_tool_calls": True, "temperature": 1.0, "tools": [],
        },
        "response": {
            "id": "resp_1", "created_at": 1760000000.0, "error": None, "incomplete_details": None, "instructions": None,
            "metadata": None, "model": "policy", "object": "response", "output": [thought, said],
            "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
        },
        "instance_config": {"difficulty": 2},
        "uuid": "u1",
    }  # fmt: skip


async def test_nemo_gym_gets_its_request_back_with_the_reward_and_its_parts(server: Client) -> None:
    (reward,) = await own(server, ANSWERS[:1])
    asked = verify_request(ANSWERS[0])
    _, row = await server.post("/doors/nemo_gym/verify", asked)
    assert row == {**asked, "reward": reward["reward"], "reward_components": reward["ratings"]}


async def test_a_reward_that_is_missing_is_what_nemo_gym_itself_makes_of_a_judge_that_failed(
    server: Client, judge_server: JudgeServer
) -> None:
    judge_server.fault("garbage", None)
    asked = verify_request("no")
    _, row = await server.post("/doors/nemo_gym/verify", asked)
    why = row["failure_reason"]
    assert why
    assert row == {
        **asked, "reward": 0.0, "reward_components": {}, "mask_sample": True, "failure_kind": "judge_failed",
        "failure_reason": why, "instance_config": {"difficulty": 2, "mask_sample": True},
        "_ng_failure_class": "judge_failed", "_ng_failure_judge_error": why,
    }  # fmt: skip
