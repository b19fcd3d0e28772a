from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from lrf_anthropic.judge import AnthropicJudge
from lrf_anthropic.messages import is_message, read_message
from lrf_anthropic.settings import AnthropicJudgeSettings
from pydantic import ValidationError

from lrf import (
    BadReplyError,
    Capabilities,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    Rating,
    RejectedError,
    Reply,
    Request,
    Segment,
    TimedOutError,
    UnavailableError,
    Usage,
)
from lrf.testing import check_judge, check_plugin

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

KEY = "sk-ant-very-secret-0123456789"
PROMPT = (Segment("Rate this.\n"), Segment("an answer 港口", trusted=False), Segment("\nRating:"))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(handler)`` answers every request by ``handler`` and returns the address, without a slash."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def request(**changes: Any) -> Request:
    return Request(**{"prompt": PROMPT, "expects": Rating(), "max_tokens": 512, "temperature": 0.01, **changes})


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-m-2026",
        "content": list(content) or [text("[[7]]")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 7,
            "output_tokens": 4,
        },
        **changes,
    }


def error(kind: str, words: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}


def judge_at(url: str, **settings: Any) -> AnthropicJudge:
    return AnthropicJudge(AnthropicJudgeSettings(**{"base_url": url, "model": "claude-m", **settings}))


async def ask(
    serve: Serve,
    reply: Any,
    asked: Request | None = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> tuple[Reply, dict[str, Any]]:
    """One reply of a judge at a server that answers ``reply``, and the body that the server was sent."""
    sent: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        sent.update(await http.json())
        return web.json_response(reply, status=status, headers=headers)

    judge = judge_at(await serve(handler), **settings)
    try:
        return await judge.complete(asked or request()), sent
    finally:
        await judge.aclose()


def test_every_component_that_the_plugin_registers_can_be_imported() -> None:
    check_plugin("lrf_anthropic.plugin")


async def test_it_passes_the_check_for_judges(serve: Serve) -> None:
    async def handler(http: web.Request) -> web.Response:
        body = await http.json()
        assert http.path == "/v1/messages"
        assert set(body) == {"model", "max_tokens", "temperature", "messages"}
        return web.json_response(message(text("It is so. [[7]]")))

    await check_judge(judge_at(await serve(handler)))


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_a_request_goes_to_messages_with_key_and_version_in_headers(serve: Serve, ending: str) -> None:
    seen: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        seen.update(path=http.path, method=http.method, headers=http.headers.copy())
        return web.json_response(message())

    judge = judge_at(await serve(handler) + ending)
    await judge.complete(request())
    await judge.aclose()
    assert (seen["method"], seen["path"]) == ("POST", "/v1/messages")
    assert seen["headers"]["x-api-key"] == KEY
    assert seen["headers"]["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in seen["headers"]


async def test_the_whole_prompt_goes_as_one_user_message(serve: Serve) -> None:
    _, sent = await ask(serve, message())
    assert sent == {
        "model": "claude-m",
        "messages": [{"role": "user", "content": "Rate this.\nan answer 港口\nRating:"}],
        "max_tokens": 512,
        "temperature": 0.01,
    }


async def test_thoughts_get_room_of_their_own_and_more_fields_are_sent_as_they_are(serve: Serve) -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    _, sent = await ask(serve, message(), temperature="omit", reasoning_tokens=2048, extra_body={"thinking": thinking})
    assert (sent["max_tokens"], sent["thinking"]) == (2560, thinking)
    assert "temperature" not in sent


async def test_a_temperature_of_the_settings_is_sent_instead_of_the_requests(serve: Serve) -> None:
    _, sent = await ask(serve, message(), request(temperature=0.95), temperature=0.5)
    assert sent["temperature"] == 0.5


async def test_the_reply_carries_text_finish_usage_and_model(serve: Serve) -> None:
    reply, _ = await ask(serve, message(text("Good.\n"), text("[[7]]")))
    assert reply == Reply("Good.\n[[7]]", "stop", Usage(30, 4, 7, written_tokens=3), model="claude-m-2026")


async def test_thoughts_are_kept_apart_from_the_text(serve: Serve) -> None:
    thoughts = {"type": "thinking", "thinking": "First [[2]], then [[9]].", "signature": "x"}
    reply, _ = await ask(serve, message(thoughts, {"type": "redacted_thinking", "data": "x"}, text("[[7]]")))
    assert (reply.text, reply.reasoning) == ("[[7]]", "First [[2]], then [[9]].")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "filter"),
        ("pause_turn", "other"),
        ("never heard of", "other"),
        (None, "other"),
    ],
)
async def test_why_it_ended_is_reported_in_lrfs_words(serve: Serve, reason: str | None, finish: str) -> None:
    reply, _ = await ask(serve, message(text("half a re"), stop_reason=reason))
    assert (reply.text, reply.finish) == ("half a re", finish)


async def test_a_refusal_without_a_word_is_an_empty_reply_that_was_filtered(serve: Serve) -> None:
    reply, _ = await ask(serve, message(content=[], stop_reason="refusal"))
    assert (reply.text, reply.finish) == ("", "filter")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ([], Usage()),
        ({"input_tokens": "30"}, Usage()),
        ({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": None}, Usage(5, 2, 0)),
    ],
)
async def test_usage_that_is_missing_or_odd_counts_as_nothing(serve: Serve, usage: Any, expected: Usage) -> None:
    reply, _ = await ask(serve, message(usage=usage))
    assert reply.usage == expected


@pytest.mark.parametrize("body", [{}, [], "text", None, {"content": None}, {"content": "text"}, {"choices": []}])
async def test_json_that_is_no_message_is_a_bad_reply(serve: Serve, body: Any) -> None:
    with pytest.raises(BadReplyError, match="no message"):
        await ask(serve, body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["content", "type", "text", "usage", "input_tokens", "stop_reason"]), inner)
    ),
)


@settings(deadline=None)
@given(_json)
def test_any_json_is_read_or_refused(value: Any) -> None:
    if not is_message(value):
        return
    reply = read_message(value)
    assert isinstance(reply.text, str)
    assert 0 <= reply.usage.cached_tokens <= reply.usage.prompt_tokens


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (429, "rate_limit_error", RateLimitedError),
        (529, "overloaded_error", RateLimitedError),
        (500, "api_error", UnavailableError),
        (504, "timeout_error", UnavailableError),
        (400, "invalid_request_error", RejectedError),
        (413, "request_too_large", RejectedError),
        (401, "authentication_error", JudgeMisconfiguredError),
        (402, "billing_error", JudgeMisconfiguredError),
        (403, "permission_error", RejectedError),
        (404, "not_found_error", JudgeMisconfiguredError),
        (200, "overloaded_error", RateLimitedError),
    ],
)
async def test_each_error_type_is_of_the_class_that_says_what_to_do(
    serve: Serve, status: int, kind: str, raised: type[JudgeError]
) -> None:
    with pytest.raises(raised, match="because") as caught:
        await ask(serve, error(kind, f"because {KEY}"), status=status)
    assert type(caught.value) is raised
    assert KEY not in str(caught.value)


async def test_a_rate_limit_tells_how_long_to_wait(serve: Serve) -> None:
    with pytest.raises(RateLimitedError) as caught:
        await ask(serve, error("rate_limit_error"), status=429, headers={"retry-after": "12"})
    assert caught.value.retry_after_s == 12


async def test_an_account_without_credit_stops_the_run_although_it_comes_as_an_invalid_request(serve: Serve) -> None:
    words = "Your credit balance is too low to access the Anthropic API."
    with pytest.raises(JudgeMisconfiguredError, match="no credit or quota left: add some"):
        await ask(serve, error("invalid_request_error", words), status=400)


async def test_a_missing_key_is_named_by_its_variable(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")

    async def handler(http: web.Request) -> web.Response:
        assert "x-api-key" not in http.headers
        return web.json_response(error("authentication_error", "x-api-key header is required"), status=401)

    judge = judge_at(await serve(handler))
    with pytest.raises(JudgeMisconfiguredError, match="ANTHROPIC_API_KEY, which is not set"):
        await judge.complete(request())
    await judge.aclose()


async def test_a_reply_after_the_requests_deadline_is_given_up(serve: Serve) -> None:
    release = asyncio.Event()

    async def handler(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)  # and never another byte
        await release.wait()
        return response

    judge = judge_at(await serve(handler))
    with pytest.raises(TimedOutError):
        await judge.complete(request(deadline_s=0.2))
    release.set()
    await judge.aclose()


def test_the_identity_is_what_replies_depend_on_and_holds_no_key() -> None:
    here, there = judge_at("http://a"), judge_at("http://b", max_concurrency=2)
    assert here.identity == there.identity
    assert here.identity != judge_at("http://a", temperature="omit").identity
    assert KEY not in json.dumps(dict(here.identity)) + repr(here.__dict__)


def test_it_says_what_it_can() -> None:
    judge = judge_at("http://a", context_window=200_000, reasoning_tokens=4096, request_timeout_s=30)
    assert judge.capabilities == Capabilities(context_window=200_000, reasoning_tokens=4096)
    assert (judge.max_concurrency, judge.request_timeout_s) == (16, 30)


@pytest.mark.parametrize("wrong", [{"temperature": 1.5}, {"temprature": 0}, {"api_key_env": KEY}])
def test_settings_that_cannot_work_are_refused_without_showing_a_key(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        judge_at("http://a", **wrong)
    assert KEY not in str(caught.value)
