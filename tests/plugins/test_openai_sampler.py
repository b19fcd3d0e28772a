"""The sampler ``openai``, against a server on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lrf.errors import BadReplyError, JudgeMisconfiguredError
from lrf.protocols import GenerationSettings
from lrf.testing import check_sampler
from lrf.types import Message, ToolCall
from lrf_openai.sampler import OpenAISampler
from lrf_openai.settings import OpenAISamplerSettings
from policy_server import PolicyServer

ASK = (Message("user", "When was it signed?"),)
TOOLS = ({"type": "function", "function": {"name": "search"}},)


@pytest.fixture
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    server.start()
    yield server
    server.stop()


def made(policy: PolicyServer, **settings: Any) -> OpenAISampler:
    return OpenAISampler(OpenAISamplerSettings(model="policy", base_url=policy.base_url, **settings))


@pytest.fixture
async def sampler(policy: PolicyServer) -> AsyncIterator[OpenAISampler]:
    sampler = made(policy, choices=5)
    yield sampler
    await sampler.aclose()


@pytest.mark.parametrize("settings", [{"seed": True}, {"choices": 3}, {}], ids=str)
async def test_it_is_a_sampler(policy: PolicyServer, settings: dict[str, Any]) -> None:
    sampler = made(policy, **settings)
    await check_sampler(sampler)
    await sampler.aclose()


async def test_calls_of_tools_are_sent_as_the_api_has_them(policy: PolicyServer, sampler: OpenAISampler) -> None:
    turns = (
        *ASK,
        Message("assistant", "", tool_calls=(ToolCall("search", {"q": "合同"}, "c1"),)),
        Message("tool", "1997", tool_call_id="c1"),
    )
    await sampler.sample(GenerationSettings(turns, (1,), 0.5, 0.9, 32, TOOLS))
    body = policy.bodies[0]
    function = {"name": "search", "arguments": '{"q": "合同"}'}
    assert body["messages"][1]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert body["messages"][2] == {"role": "tool", "content": "1997", "tool_call_id": "c1"}
    assert (body["tools"], body["top_p"], body["temperature"]) == (list(TOOLS), 0.9, 0.5)
    assert "seed" not in body


async def test_room_for_thoughts_is_added_and_own_fields_are_sent(policy: PolicyServer) -> None:
    sampler = made(
        policy, reasoning_tokens=100, max_tokens_field="max_completion_tokens", extra_body={"min_p": 0.05}, seed=True
    )
    await sampler.sample(GenerationSettings(ASK, (77,), 1.0, 1.0, 32))
    body = policy.bodies[0]
    assert (body["max_completion_tokens"], body["min_p"], body["seed"]) == (132, 0.05, 77)
    assert "max_tokens" not in body
    await sampler.aclose()


async def test_what_was_written_is_shared_out_to_the_last_token(sampler: OpenAISampler) -> None:
    replies = await sampler.sample(GenerationSettings(ASK, (1, 2, 3, 4, 5), 1.0, 1.0, 32))
    assert sum(r.usage.completion_tokens for r in replies) == sum(len(r.text) // 4 for r in replies)
    assert [r.usage.prompt_tokens for r in replies] == [len(ASK[0].content) // 4, 0, 0, 0, 0]


async def test_fewer_choices_than_asked_for_stop_the_run(policy: PolicyServer, sampler: OpenAISampler) -> None:
    policy.choices = 2
    with pytest.raises(JudgeMisconfiguredError, match="gave 2 of 5 choices"):
        await sampler.sample(GenerationSettings(ASK, (1, 2, 3, 4, 5), 1.0, 1.0, 32))


async def test_a_body_without_choices_is_worth_another_try(policy: PolicyServer, sampler: OpenAISampler) -> None:
    policy.choices = 0
    with pytest.raises(BadReplyError, match="holds no choices"):
        await sampler.sample(GenerationSettings(ASK, (1,), 1.0, 1.0, 32))
