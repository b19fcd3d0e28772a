"""Streams, results that come later (status 202), and GET: what odd providers need of the HTTP client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import (
    BadReplyError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.client import HttpClient
from lrf.http.events import EventReader
from lrf.http.openai import join_chat_chunks, read_chat
from lrf.http.settings import EndpointSettings
from serving import Handler, Serve

Connect = Callable[..., Awaitable[HttpClient]]

SSE = "text/event-stream; charset=utf-8"


@pytest.fixture
async def connect(serve: Serve) -> AsyncIterator[Connect]:
    """A client of a server that answers by a handler."""
    clients = []

    async def start(handler: Handler, **settings: Any) -> HttpClient:
        base = {"base_url": await serve(handler), "model": "m", "api_key_env": "LRF_UNSET_KEY"}
        clients.append(HttpClient(EndpointSettings(**{**base, "request_timeout_s": 20, **settings})))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()


def streaming(*parts: bytes, content_type: str = SSE, pause_s: float = 0.0) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause_s)
        return response

    return handler


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"model": "m-1", "choices": [choice], **fields}).encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'data: {"a": 1}\n\ndata: 2\n\ndata: [DONE]\n\n', SSE),
        (b'data:{"a": 1}\r\n\r\nid: 7\r\ndata: 2\r\n\r\n', SSE),
        (b': a comment\n\nevent: x\ndata: {"a":\ndata: 1}\n\nretry: 9\n\ndata: 2', SSE),
        (b'{"a": 1}\n\n2\n', "application/x-ndjson"),
        (b'{"a": 1}\r\n2', "application/jsonl"),
    ],
    ids=["openai", "crlf", "several-lines", "ndjson", "jsonl"],
)
async def test_a_stream_gives_its_values_one_after_another(body: bytes, content_type: str, connect: Connect) -> None:
    client = await connect(streaming(*(body[i : i + 5] for i in range(0, len(body), 5)), content_type=content_type))
    assert [value async for value in client.stream("/x", {})] == [{"a": 1}, 2]


async def test_a_value_is_given_before_the_stream_ends(connect: Connect) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": SSE})
        await response.prepare(request)
        try:
            await response.write(b"data: 1\n\n")
            while True:
                await asyncio.sleep(0.01)
                await response.write(b": still here\n\n")
        finally:
            gone.set()

    client = await connect(handler, max_concurrency=1)
    async with aclosing(client.stream("/x", {})) as values:
        assert await anext(values) == 1
    await asyncio.wait_for(gone.wait(), 10)  # stopping early closes the connection


async def test_a_stream_that_nobody_asked_for_is_read_beside_the_loop_and_only_up_to_a_number_of_lines(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.client._LONG_STREAM", 100)
    monkeypatch.setattr("lrf.http.client._MOST_LINES", 200)
    threads: set[int] = set()

    def join(values: Sequence[Any]) -> int:
        threads.add(threading.get_ident())
        return len(values)

    client = await connect(streaming(b"data: {}\n\n" * 100))
    assert await client.post("/x", {}, join=join) == 100
    assert threads.isdisjoint({threading.get_ident()})
    client = await connect(streaming(b"data: {}\n\n" * 101))
    with pytest.raises(BadReplyError, match="a stream of more than 200 lines"):
        await client.post("/x", {}, join=join)


async def test_plain_json_where_a_stream_was_asked_for_is_one_value(connect: Connect) -> None:
    client = await connect(streaming(b'{"a"', b": 1}", content_type="application/json"))
    assert [value async for value in client.stream("/x", {})] == [{"a": 1}]


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (streaming(b'data: {"error": {"message": "no", "code": 429}}\n\n'), RateLimitedError),
        (streaming(b"data: nonsense\n\n"), BadReplyError),
        (streaming(*[b"data: 1\n\n" * 1_000] * 100), BadReplyError),
        (streaming(b"data: 1\n\n" * 10, pause_s=3600), TimedOutError),
    ],
    ids=["error-inside", "no-json", "too-long", "never-ends"],
)
async def test_a_stream_that_goes_wrong_says_how(handler: Handler, error: type[JudgeError], connect: Connect) -> None:
    client = await connect(handler, max_reply_mb=0.5, request_timeout_s=60 if error is not TimedOutError else 0.3)
    with pytest.raises(error):
        async for _ in client.stream("/x", {}):
            pass


async def test_a_stream_that_is_refused_or_cut_raises_as_a_reply_does(connect: Connect) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/refused":
            return web.json_response({"error": {"message": "no such thing"}}, status=400)
        response = web.StreamResponse(headers={"Content-Type": SSE})
        await response.prepare(request)
        await response.write(b"data: 1\n\ndata")
        assert request.transport is not None
        request.transport.abort()
        return response

    client = await connect(handler)
    with pytest.raises(RejectedError, match="no such thing"):
        await anext(client.stream("/refused", {}))
    values = client.stream("/cut", {})
    assert await anext(values) == 1
    with pytest.raises(UnavailableError) as caught:
        await anext(values)
    assert caught.value.sent


@given(st.binary(max_size=300), st.data())
def test_events_are_the_same_however_a_stream_is_cut(body: bytes, data: st.DataObject) -> None:
    body = body.replace(b"\x01", b"\ndata: ").replace(b"\x02", b"\n\n")
    cut = data.draw(st.integers(0, len(body)))
    at_once, in_two = EventReader(), EventReader()
    expected = [*at_once.feed(body), *at_once.end()]
    assert [*in_two.feed(body[:cut]), *in_two.feed(body[cut:]), *in_two.end()] == expected


async def test_a_stream_that_nobody_asked_for_is_read_as_the_completion_it_is(connect: Connect) -> None:
    client = await connect(
        streaming(
            chunk({"role": "assistant", "reasoning_content": "hm"}),
            chunk({"content": "Rating: "}, logprobs=None),
            chunk({"content": "[[7]]"}),
            chunk({}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 3}),
            b"data: [DONE]\n\n",
        )
    )
    reply = read_chat(await client.post("/x", {}, join=join_chat_chunks))
    assert (reply.text, reply.reasoning, reply.finish, reply.model) == ("Rating: [[7]]", "hm", "stop", "m-1")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 3)


async def test_a_stream_of_one_event_is_that_value_and_a_longer_one_an_error(connect: Connect) -> None:
    client = await connect(streaming(b'data: {"a": 1}\n\n'))
    assert await client.post("/x", {}) == {"a": 1}
    client = await connect(streaming(b"data: 1\n\ndata: 2\n\n"))
    with pytest.raises(BadReplyError, match=r"streams \(2 events\)"):
        await client.post("/x", {})
    with pytest.raises(BadReplyError, match="empty stream"):
        await (await connect(streaming())).post("/x", {})


def test_chunks_are_joined_by_the_index_of_their_choice_with_their_log_probabilities() -> None:
    def piece(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        listed = {"content": [{"token": text}]}
        return {"index": index, "delta": {"content": text}, "finish_reason": finish, "logprobs": listed}

    value = join_chat_chunks(
        [
            {"choices": [piece(0, "a"), piece(1, "x")]},
            {"choices": [piece(1, "y", "length"), piece(0, "b", "stop")]},
            {"choices": [], "usage": {"prompt_tokens": 1}},
        ]
    )
    assert [(c["message"]["content"], c["finish_reason"]) for c in value["choices"]] == [
        ("ab", "stop"),
        ("xy", "length"),
    ]
    assert value["choices"][0]["logprobs"]["content"] == [{"token": "a"}, {"token": "b"}]
    assert value["usage"] == {"prompt_tokens": 1}


class Operation:
    """Accepts a POST and has its result after ``polls`` more requests. ``headers`` go with the 202."""

    def __init__(
        self, polls: int, headers: dict[str, str], body: Any = None, running: tuple[int, Any] = (202, {})
    ) -> None:
        self.polls = polls
        self.headers = headers
        self.body = body or {}
        self.running = running
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        if request.method == "POST":
            return web.json_response(self.body, status=202, headers={"Retry-After": "0", **self.headers})
        self.polls -= 1
        if self.polls >= 0:
            return web.json_response(self.running[1], status=self.running[0], headers={"Retry-After": "0"})
        return web.json_response({"done": True})


@pytest.mark.parametrize(
    ("headers", "body", "result_path", "fetched"),
    [
        ({"Location": "/operations/7?v=1"}, None, None, "GET /operations/7?v=1"),
        ({"Operation-Location": "operations/8"}, None, None, "GET /operations/8"),
        ({}, {"id": "a b"}, "/results/{id}", "GET /results/a%20b"),
        ({"Location": "/elsewhere"}, {"task_id": 9}, "/results/{id}", "GET /results/9"),
    ],
)
@pytest.mark.parametrize("running", [(202, {}), (200, {"status": "Running"}), (503, {}), (429, {})])
async def test_an_accepted_request_is_posted_once_and_its_result_fetched_until_it_is_there(
    headers: dict[str, str],
    body: Any,
    result_path: str | None,
    fetched: str,
    running: tuple[int, Any],
    connect: Connect,
) -> None:
    operation = Operation(2, headers, body, running)
    client = await connect(operation.answer)
    assert await client.post("/x", {}, result_path=result_path) == {"done": True}
    assert operation.asked == ["POST /x", *[fetched] * 3]


async def test_an_accepted_request_without_a_place_for_its_result_is_a_bad_reply(connect: Connect) -> None:
    client = await connect(Operation(0, {}).answer)
    for result_path in (None, "/results/{id}"):
        with pytest.raises(BadReplyError, match="without saying where its result will be"):
            await client.post("/x", {}, result_path=result_path)


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example/7", "//elsewhere.example/7", "http://a:b/"])
async def test_no_key_goes_to_another_server_for_a_result(elsewhere: str, connect: Connect) -> None:
    client = await connect(Operation(0, {"Location": elsewhere}).answer)
    with pytest.raises(JudgeMisconfiguredError, match="the result is on another server") as caught:
        await client.post("/x", {})
    assert caught.value.sent


@pytest.mark.parametrize(("running", "error"), [((202, {}), TimedOutError), ((404, {}), JudgeMisconfiguredError)])
async def test_an_accepted_request_whose_result_never_comes_may_have_been_served(
    running: tuple[int, Any], error: type[JudgeError], connect: Connect
) -> None:
    operation = Operation(10**6, {"Location": "/operations/7"}, running=running)
    client = await connect(operation.answer, request_timeout_s=0.5)
    with pytest.raises(error) as caught:
        await client.post("/x", {})
    assert caught.value.sent


async def test_json_and_text_are_fetched(connect: Connect) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response([request.method, request.path_qs])

    client = await connect(handler)
    assert await client.get_json("/models?limit=2") == ["GET", "/models?limit=2"]
    assert await client.get_text("/metrics") == '["GET", "/metrics"]'


async def test_what_is_fetched_is_an_error_where_it_is_refused_or_no_json(connect: Connect) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="plain", status=200 if request.path == "/text" else 404)

    client = await connect(handler)
    with pytest.raises(BadReplyError, match="no JSON but: plain"):
        await client.get_json("/text")
    with pytest.raises(JudgeMisconfiguredError, match="status 404: plain"):
        await client.get_json("/nothing")
