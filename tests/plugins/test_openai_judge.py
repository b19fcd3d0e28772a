"""The judge ``openai`` against real servers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.errors import (
    BadReplyError,
    ContextTooSmallError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
)
from lrf.http.openai import read_chat
from lrf.prompting.expectations import Rating, Text
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities, Judge
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings
from serving import Serve

KEY = "sk-very-secret-0123456789"
PROMPT = (Segment("Rate this.\n"), Segment("an answer 港口", trusted=False), Segment("\nRating:"))


def request(**changes: Any) -> Request:
    return Request(**{"prompt": PROMPT, "expects": Rating(), "max_tokens": 512, "temperature": 0.01, **changes})


def completion(content: Any = "[[7]]", finish: Any = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m-2026",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {
            "prompt_tokens": 30,
            "completion_tokens": 4,
            "total_tokens": 34,
            "prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 8},
        },
    }


async def ask(
    serve: Serve, reply: Any, asked: Request | None = None, status: int = 200, **settings: Any
) -> tuple[Reply, dict[str, Any]]:
    """One reply of a judge at a server that answers ``reply``, and the body that the server was sent."""
    sent: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        sent.update(await http.json())
        return web.json_response(reply, status=status)

    judge = OpenAIJudge(OpenAIJudgeSettings(**{"base_url": await serve(handler), "model": "m", **settings}))
    try:
        return await judge.complete(asked or request()), sent
    finally:
        await judge.aclose()


async def test_the_whole_prompt_goes_as_one_user_message(serve: Serve) -> None:
    _, sent = await ask(serve, completion())
    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "Rate this.\nan answer 港口\nRating:"}],
        "max_tokens": 512,
        "temperature": 0.01,
    }


async def test_the_reply_carries_text_finish_usage_and_model(serve: Serve) -> None:
    reply, _ = await ask(serve, completion("Analysis: good.\nRating: [[7]]"))
    assert reply == Reply("Analysis: good.\nRating: [[7]]", "stop", Usage(30, 4, 16, written_tokens=8), model="m-2026")


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("content_filter", "filter"),
        ("sensitive", "filter"),
        ("tool_calls", "tool_call"),
        ("never heard of", "other"),
        (None, "other"),
    ],
)
async def test_the_reason_of_a_replys_end_is_read_in_lrfs_words(serve: Serve, finish: Any, expected: str) -> None:
    reply, _ = await ask(serve, completion("half a re", finish))
    assert reply.finish == expected
    assert reply.text == "half a re"


async def test_thoughts_are_kept_apart_from_the_text(serve: Serve) -> None:
    reply, _ = await ask(serve, completion("[[7]]", reasoning_content="First [[2]], then [[9]]."))
    assert reply.text == "[[7]]"
    assert reply.reasoning == "First [[2]], then [[9]]."


async def test_a_model_that_spent_all_tokens_on_thoughts_gives_an_empty_reply_cut_off(serve: Serve) -> None:
    reply, _ = await ask(serve, completion(None, "length", reasoning_content="Hmm"))
    assert (reply.text, reply.finish) == ("", "length")


@pytest.mark.parametrize("content", [None, "", []])
async def test_a_refusal_is_a_reply_that_was_filtered(serve: Serve, content: Any) -> None:
    reply, _ = await ask(serve, completion(content, refusal="I can't rate this."))
    assert (reply.text, reply.finish) == ("I can't rate this.", "filter")


async def test_content_in_parts_is_put_together(serve: Serve) -> None:
    parts = [{"type": "text", "text": "[["}, {"type": "text", "text": "7]]"}, {"type": "image_url"}]
    reply, _ = await ask(serve, completion(parts))
    assert reply.text == "[[7]]"


@pytest.mark.parametrize(
    ("total", "written"),
    [(None, 5), (35, 5), (135, 105), (20, 5), ("135", 5)],
    ids=["none", "sum", "more", "less", "odd"],
)
async def test_thoughts_that_only_the_total_counts_are_completion_tokens(
    serve: Serve, total: Any, written: int
) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": total}
    reply, _ = await ask(serve, {**completion(), "usage": usage})
    assert reply.usage == Usage(30, written)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"total_tokens": 30},
        {"prompt_tokens": "30"},
        {"prompt_tokens_details": 7},
        {"prompt_tokens": 10**30},
    ],
)
async def test_usage_that_is_missing_or_odd_counts_as_nothing(serve: Serve, usage: Any) -> None:
    reply, _ = await ask(serve, {**completion(), "usage": usage})
    assert reply.usage == Usage()


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"content": 7}}]},
        {"object": "list", "data": []},
    ],
)
async def test_json_that_is_no_completion_is_a_bad_reply(serve: Serve, body: Any) -> None:
    with pytest.raises(BadReplyError):
        await ask(serve, body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "model", "finish_reason"]), inner)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_any_json_is_a_reply_or_a_bad_reply(value: Any) -> None:
    with contextlib.suppress(BadReplyError):
        assert isinstance(read_chat(value).text, str)


async def test_a_schema_is_sent_strictly_when_a_structured_reply_is_asked_for(serve: Serve) -> None:
    expects = Rating()
    _, sent = await ask(serve, completion('{"rating": 7}'), request(reply_mode="json"), structured=True)
    assert sent["response_format"]["type"] == "json_schema"
    schema = sent["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["name"] == "rating"
    assert schema["schema"] == json.loads(json.dumps(expects.schema))


async def test_free_text_is_asked_for_without_a_schema(serve: Serve) -> None:
    _, sent = await ask(serve, completion(), request(expects=Text()), structured=True)
    assert "response_format" not in sent


@pytest.mark.parametrize(("seed", "sent_seed"), [(True, 5), (False, None)])
async def test_a_seed_is_sent_only_to_servers_that_take_one(serve: Serve, seed: bool, sent_seed: int | None) -> None:
    _, sent = await ask(serve, completion(), request(seed=5), seed=seed)
    assert sent.get("seed") == sent_seed


async def test_settings_for_models_that_think(serve: Serve) -> None:
    _, sent = await ask(
        serve,
        completion(),
        temperature="omit",
        max_tokens_field="max_completion_tokens",
        reasoning_tokens=2_000,
        extra_body={"reasoning_effort": "low"},
    )
    assert "temperature" not in sent
    assert "max_tokens" not in sent
    assert sent["max_completion_tokens"] == 2_512
    assert sent["reasoning_effort"] == "low"


async def test_a_fixed_temperature_replaces_lrfs_own(serve: Serve) -> None:
    _, sent = await ask(serve, completion(), request(temperature=0.95), temperature=0.5)
    assert sent["temperature"] == 0.5


async def test_capabilities_are_what_the_settings_say() -> None:
    plain = OpenAIJudge(OpenAIJudgeSettings(model="m"))
    able = OpenAIJudge(OpenAIJudgeSettings(model="m", structured=True, seed=True))
    assert isinstance(plain, Judge)
    assert plain.capabilities == Capabilities()
    assert able.capabilities == Capabilities(structured=True, seed=True)


def test_the_identity_says_what_replies_depend_on_and_neither_address_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def identity(**settings: Any) -> str:
        return json.dumps(OpenAIJudge(OpenAIJudgeSettings(**{"model": "m", **settings})).identity, sort_keys=True)

    assert identity() == identity(base_url="http://elsewhere/v1", max_concurrency=3, request_timeout_s=9)
    assert len({identity(), identity(model="n"), identity(extra_body={"a": 1}), identity(temperature=0.5)}) == 4
    assert KEY not in identity()


async def test_the_key_is_read_from_the_usual_variable_unless_another_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    async def handler(http: web.Request) -> web.Response:
        seen.append(http.headers.get("Authorization"))
        return web.json_response(completion())

    url = await serve(handler)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_JUDGE_KEY", "other-key")
    for settings in ({}, {"api_key_env": "MY_JUDGE_KEY"}, {"api_key_env": "LRF_TEST_UNSET"}):
        judge = OpenAIJudge(OpenAIJudgeSettings(base_url=url, model="m", **settings))
        await judge.complete(request())
        await judge.aclose()
    assert seen == [f"Bearer {KEY}", "Bearer other-key", None]


@pytest.mark.parametrize(
    ("status", "error", "raised", "says"),
    [
        (
            429,
            {"type": "insufficient_quota", "code": "insufficient_quota"},
            JudgeMisconfiguredError,
            "no credit or quota",
        ),
        (429, {"type": "requests", "code": "rate_limit_exceeded"}, RateLimitedError, "status 429"),
        (
            429,
            {"code": "rate_limit_exceeded", "message": "Request too large for m: 9"},
            ContextTooSmallError,
            "too large for m",
        ),
        (400, {"code": "context_length_exceeded"}, ContextTooSmallError, "status 400"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, ContextTooSmallError, "8192 tokens"),
        (400, {"code": "unsupported_parameter"}, JudgeMisconfiguredError, "max_tokens_field"),
        (404, {"code": "model_not_found"}, JudgeMisconfiguredError, "check `model`"),
        (400, {"code": "content_filter"}, RejectedError, "status 400"),
    ],
)
async def test_openais_error_codes_say_more_than_the_status(
    serve: Serve, status: int, error: dict[str, str], raised: type[Exception], says: str
) -> None:
    with pytest.raises(raised, match=says):
        await ask(serve, {"error": {"message": "as it is", **error}}, status=status)


async def test_a_requests_deadline_is_kept(serve: Serve) -> None:
    async def handler(http: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    judge = OpenAIJudge(OpenAIJudgeSettings(base_url=await serve(handler), model="m"))
    with pytest.raises(TimedOutError):
        await judge.complete(request(deadline_s=0.1))
    await judge.aclose()


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        OpenAIJudgeSettings(model="m", temprature=0.5)  # type: ignore[call-arg]


@pytest.mark.parametrize("plugin", ["lrf_openai", "lrf_glm", "lrf_vllm"])
def test_plugin_and_settings_import_no_client(plugin: str) -> None:
    script = f"import {plugin}.plugin, {plugin}.settings, sys\nassert not {{'aiohttp', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
