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


SLIME = {"prompt": PLAIN_PROMPT, "response": "It is 1 euro.", "label": None}
REFUSED: list[tuple[str, Any, int, str]] = [
    ("openrlhf", {"query": ["a"], "prompts": [], "labels": []}, 422, "expected lists of one length"),
    ("openrlhf", {"query": "a", "prompts": []}, 422, "query: expected a list of texts"),
    ("slime", {**SLIME, "prompt": None}, 422, "prompt: missing, and no label names document and question"),
    ("slime?on_missing=value", SLIME, 400, "missing_value: expected a number"),
    ("slime?on_missing=value&missing_value=inf", SLIME, 400, "missing_value: expected a number"),
    ("slime?on_missing=zero", SLIME, 400, "on_missing: expected error, or value with missing_value=NUMBER"),
    ("llama_factory", {"messages": []}, 422, "messages: expected a list of texts, at least one"),
    ("llama_factory", {"messages": ["no marks of a chat"]}, 422, ""),
    ("nemo_gym/verify", {"response": 7}, 422, "responses_create_params and response: expected objects"),
]


@pytest.mark.parametrize(("door", "body", "status", "says"), REFUSED, ids=[f"{d}: {s}" for d, _, _, s in REFUSED])
async def test_what_a_stack_sends_wrongly_is_refused_in_a_sentence(
    server: Client, judge_server: JudgeServer, door: str, body: Any, status: int, says: str
) -> None:
    judge_server.fault("garbage", None)  # where a reward is asked for, it is missing
    got, answer = await server.post(f"/doors/{door}", body)
    assert (got, says in answer["error"]) == (status, True), answer


async def test_a_document_named_by_a_header_and_texts_in_either_form_of_nemo_gym_are_the_same(server: Client) -> None:
    await server.post("/v1/documents", {"text": DOCUMENT})
    header = {"lrf-document-id": document_id(DOCUMENT)}
    (reward,) = await own(server, ANSWERS[:1])
    label = {"query": QUERY}
    row = {"prompt": None, "response": ANSWERS[0], "label": label}
    assert await server.post("/doors/slime", row, **header) == (200, reward["reward"])
    for content in (ANSWERS[0], [{"type": "output_text", "text": ANSWERS[0]}]):
        output = [{"type": "reasoning"}, {"type": "message", "content": content}]
        asked = {"responses_create_params": {"input": PLAIN_PROMPT}, "response": {"output": output}}
        assert (await server.post("/doors/nemo_gym/verify", asked))[1]["reward"] == reward["reward"]


async def test_paths_methods_and_bodies_that_the_server_has_not_are_refused(server: Client) -> None:
    assert (await server.post("/v2/rewards", {}))[0] == 404
    assert (await server.get("/v1/rewards"))[0] == 405
    assert (await server.get("/v1/rewards/unknown"))[0] == 404
    for text, says in (("a\0", "NUL"), (" ", "the document is empty")):
        status, body = await server.post("/v1/documents", {"text": text})
        assert (status, says in body["error"]) == (422, True)
    described = json.loads((await server.get("/openapi.json"))[1])
    assert {"/v1/rewards", "/v1/documents", "/healthz", "/doors/slime"} <= set(described["paths"])
    assert described["paths"]["/v1/rewards/{id}"]["get"]["parameters"][0]["name"] == "id"
