"""The HTTP client of judges and embedders, against real servers on this machine."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import weakref
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import lrf
from lrf.errors import (
    BadReplyError,
    ContextTooSmallError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.client import HttpClient
from lrf.http.error_classes import ErrorCodes
from lrf.http.settings import EndpointSettings
from serving import Handler, Serve

DEEP = '{"x": ' + "[" * 980 + "]" * 980 + "}"
KEY = "sk-very-secret-0123456789"
CODES = ErrorCodes(
    wait=frozenset({"1302"}),
    stop=frozenset({"insufficient_quota", "1113"}),
    reject=frozenset({"context_length_exceeded"}),
    busy=frozenset({"1234"}),
    hints={"insufficient_quota": "add some credit"},
)


def client_for(url: str, **settings: Any) -> HttpClient:
    endpoint = EndpointSettings(**{"base_url": url, "model": "m", "api_key_env": "LRF_TEST_KEY", **settings})
    return HttpClient(endpoint, CODES)


async def post(url: str, *, timeout_s: float | None = None, **settings: Any) -> Any:
    client = client_for(url, **settings)
    try:
        return await client.post("/chat/completions", {"model": "m"}, timeout_s=timeout_s)
    finally:
        await client.aclose()


def always(status: int = 200, body: bytes | str = b"{}", **headers: str) -> Handler:
    """Answers everything alike; underscores in the names of headers stand for hyphens."""

    async def handler(request: web.Request) -> web.Response:
        data = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=data, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handler


def error_body(message: str = "no", **fields: Any) -> str:
    return json.dumps({"error": {"message": message, **fields}})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRF_TEST_KEY", KEY)


async def test_json_goes_out_as_utf8_with_the_key_and_json_comes_back(serve: Serve) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(path=request.path, raw=await request.read(), headers=dict(request.headers))
        return web.json_response({"ok": "港口"})

    client = client_for(await serve(handler) + "/v1/")
    assert await client.post("/chat/completions", {"text": "海港 \ud800 é"}) == {"ok": "港口"}
    await client.aclose()
    assert seen["path"] == "/v1/chat/completions"
    assert json.loads(seen["raw"]) == {"text": "海港 ? é"}
    assert "海港".encode() in seen["raw"]
    assert seen["headers"]["Authorization"] == f"Bearer {KEY}"
    assert seen["headers"]["Content-Type"] == "application/json"
    assert seen["headers"]["User-Agent"] == f"lrf/{lrf.__version__}"


async def test_without_a_key_no_authorization_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRF_TEST_KEY")

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"sent": "Authorization" in request.headers})

    assert await post(await serve(handler)) == {"sent": False}


async def test_more_headers_come_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRF_TEST_ORG", "org-1")

    async def handler(request: web.Request) -> web.Response:
        return web.json_response([request.headers.get("X-Organization"), request.headers.get("X-Unset")])

    names = {"X-Organization": "LRF_TEST_ORG", "X-Unset": "LRF_TEST_UNSET"}
    assert await post(await serve(handler), header_env=names) == ["org-1", None]


async def test_a_header_of_the_environment_replaces_one_of_lrfs_whatever_its_case(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRF_TEST_OTHER", "Token other")

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(request.headers.getall("Authorization"))

    assert await post(await serve(handler), header_env={"authorization": "LRF_TEST_OTHER"}) == ["Token other"]


async def test_a_key_in_a_header_of_its_own_goes_bare_beside_fixed_headers(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response([request.headers.get(n) for n in ("X-Api-Key", "Api-Version", "Authorization")])

    endpoint = EndpointSettings(base_url=await serve(handler), model="m", api_key_env="LRF_TEST_KEY")
    client = HttpClient(endpoint, key_header="x-api-key", headers={"api-version": "2023-06-01"})
    assert await client.post("/", {}) == [KEY, "2023-06-01", None]
    await client.aclose()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, error_body("bad"), RejectedError),
        (400, error_body("too long", code="context_length_exceeded"), ContextTooSmallError),
        (413, "too large", RejectedError),
        (422, json.dumps({"detail": [{"msg": "field required"}]}), RejectedError),
        (451, "", RejectedError),
        (401, error_body("who?"), JudgeMisconfiguredError),
        (402, error_body("pay"), JudgeMisconfiguredError),
        (403, error_body("no"), RejectedError),
        (404, "404 page not found", JudgeMisconfiguredError),
        (405, "", JudgeMisconfiguredError),
        (408, "", UnavailableError),
        (409, "", UnavailableError),
        (425, "", UnavailableError),
        (429, error_body("slow down"), RateLimitedError),
        (429, error_body("1302", code="1302"), RateLimitedError),
        (400, error_body("1302", code="1302"), RateLimitedError),
        (429, error_body("quota", type="insufficient_quota"), JudgeMisconfiguredError),
        (429, error_body("arrears", code=1113), JudgeMisconfiguredError),
        (400, error_body("network", code="1234"), UnavailableError),
        (500, "", UnavailableError),
        (502, "<html><body>Bad gateway</body></html>", UnavailableError),
        (503, error_body("overloaded"), UnavailableError),
        (529, "", UnavailableError),
        (307, "", JudgeMisconfiguredError),
    ],
)
async def test_each_refusal_is_an_error_of_the_class_that_says_what_to_do(
    serve: Serve, status: int, body: str, error: type[JudgeError]
) -> None:
    url = await serve(always(status, body))
    with pytest.raises(error) as caught:
        await post(url)
    assert type(caught.value) is error
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize(
    "body", ["null", "[]", "7", '"x"', '{"error": null}', '{"error": []}', "[" * 100_000, "\xff", DEEP]
)
async def test_a_refusal_of_any_shape_gives_an_error_with_its_status(serve: Serve, status: int, body: str) -> None:
    with pytest.raises(JudgeError, match=f"status {status}"):
        await post(await serve(always(status, body)))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0.25"}, 0.25),
        ({"Retry_After": "-3"}, 0.0),
        ({"Retry_After_Ms": "1500", "Retry_After": "9"}, 1.5),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "inf"}, None),
        ({"Retry_After": ""}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, UnavailableError)])
async def test_retry_after_is_read_in_seconds(
    serve: Serve,
    headers: dict[str, str],
    seconds: float | None,
    status: int,
    kind: type[RateLimitedError] | type[UnavailableError],
) -> None:
    with pytest.raises(kind) as caught:
        await post(await serve(always(status, "", **headers)))
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(("offset_s", "low", "high"), [(90, 60, 90), (-90, 0, 0)])
async def test_retry_after_may_be_a_date(serve: Serve, offset_s: int, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=offset_s), usegmt=True)
    with pytest.raises(RateLimitedError) as caught:
        await post(await serve(always(429, "", Retry_After=date)))
    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("<html><title>Welcome</title></html>", r"a web page: Welcome; check `base_url`"),
        ("", "answered nothing"),
        (" \n", "answered nothing"),
        ('{"choices": [', "no JSON but"),
        (b'{"text": "\xff\xfe"}', "not UTF-8"),
        (b"\x00\x01\x02", "no JSON but"),
        ("[" * 200_000, "no JSON but"),
        ('{"n": ' + "9" * 5_000 + "}", "no JSON but"),
    ],
    ids=["html", "empty", "blank", "cut", "not-utf8", "binary", "deep", "huge-number"],
)
async def test_a_reply_that_is_not_json_is_a_bad_reply(serve: Serve, body: str | bytes, says: str) -> None:
    with pytest.raises(BadReplyError, match=says) as caught:
        await post(await serve(always(200, body)))
    assert len(str(caught.value)) < 600


async def test_two_hundred_megabytes_are_refused_after_the_first_few(serve: Serve) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" " * 1_000_000)
            sent += 1
        return response

    with pytest.raises(BadReplyError, match=r"longer than 2 MB \(`max_reply_mb`\)"):
        await post(await serve(handler), max_reply_mb=2)
    assert sent < 100


async def test_an_error_whose_body_never_ends_quotes_its_start(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        while True:
            await response.write(b"overloaded " * 1_000)

    with pytest.raises(UnavailableError, match="overloaded overloaded"):
        await post(await serve(handler), request_timeout_s=20)


async def test_a_server_that_never_answers_runs_into_the_shorter_deadline(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    url = await serve(handler)
    with pytest.raises(TimedOutError, match=r"within 0.2 s"):
        await post(url, timeout_s=0.2)
    with pytest.raises(TimedOutError, match=r"within 0.1 s"):
        await post(url, timeout_s=5, request_timeout_s=0.1)


async def test_a_refused_connection_is_unavailable_and_asks_whether_the_server_is_up(unused_tcp_port: int) -> None:
    with pytest.raises(UnavailableError, match=rf"127.0.0.1:{unused_tcp_port}.*is the server up\?"):
        await post(f"http://127.0.0.1:{unused_tcp_port}/v1")


async def test_an_error_inside_an_answer_of_200_is_an_error(serve: Serve) -> None:
    with pytest.raises(RateLimitedError, match="upstream is busy"):
        await post(await serve(always(200, error_body("upstream is busy", code=429))))
    with pytest.raises(UnavailableError, match="provider failed"):
        await post(await serve(always(200, error_body("provider failed"))))


async def test_an_error_beside_choices_leaves_the_answer_to_the_reader(serve: Serve) -> None:
    body = {"error": {"message": "a warning"}, "choices": [{}]}
    assert await post(await serve(always(200, json.dumps(body)))) == body


async def test_a_redirect_is_an_error_and_not_followed(serve: Serve) -> None:
    with pytest.raises(JudgeMisconfiguredError, match=r"redirects to https://elsewhere.example/v1; set `base_url`"):
        await post(await serve(always(308, "", Location="https://elsewhere.example/v1")))


async def test_a_refused_key_names_the_variable_whether_it_is_set_and_the_model(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await serve(always(401, error_body("Incorrect API key provided")))
    with pytest.raises(JudgeMisconfiguredError, match=r"\(model m\).*LRF_TEST_KEY, which is set"):
        await post(url)
    monkeypatch.delenv("LRF_TEST_KEY")
    with pytest.raises(JudgeMisconfiguredError, match=r"LRF_TEST_KEY, which is not set"):
        await post(url)


async def test_an_unknown_path_or_model_says_what_to_check(serve: Serve) -> None:
    with pytest.raises(JudgeMisconfiguredError, match=r"check `base_url` \(most end in /v1\) and `model` \(m\)"):
        await post(await serve(always(404, "not found")))


async def test_a_providers_hint_follows_its_code(serve: Serve) -> None:
    with pytest.raises(JudgeMisconfiguredError, match="add some credit"):
        await post(await serve(always(429, error_body("quota", code="insufficient_quota"))))


async def test_a_key_that_the_server_echoes_is_in_no_message_log_or_repr(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def echo(request: web.Request) -> web.Response:
        status = int(request.path.split("/")[1])
        return web.Response(status=status, text=f"headers: {dict(request.headers)} " * 3)

    url = await serve(echo)
    for status in (200, 301, 400, 401, 404, 429, 500):
        with pytest.raises(JudgeError) as caught:
            await post(f"{url}/{status}")
        error: BaseException | None = caught.value
        assert "${LRF_TEST_KEY}" in str(error) or status == 301
        while error is not None:
            assert KEY not in f"{error!s}{error!r}"
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert KEY not in caplog.text
    client = client_for(url)
    assert KEY not in repr(client)
    await client.aclose()


async def test_a_key_that_another_one_begins_with_hides_all_of_that_one(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRF_TEST_OTHER", KEY + "-and-more")
    url = await serve(always(400, error_body(f"what is {KEY}-and-more?")))
    with pytest.raises(RejectedError) as caught:
        await post(url, header_env={"X-Other": "LRF_TEST_OTHER"})
    assert "what is ${LRF_TEST_OTHER}?" in str(caught.value)


@pytest.mark.parametrize("status", [200, 400])
async def test_half_of_a_key_where_an_echo_is_cut_is_not_shown_either(serve: Serve, status: int) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(status=status, text="no" + " " * (cut - len(KEY) // 2) + KEY)

    url = await serve(echo)
    for cut in (300, 4_000, 6_000, 65_536):
        with pytest.raises(JudgeError) as caught:
            await post(url)
        assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize("value", ["sk-abc\nX-Injected: 1", "schlüssel", "a\x07b"])
def test_a_key_that_is_no_header_is_refused_without_showing_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRF_TEST_KEY", value)
    with pytest.raises(JudgeMisconfiguredError, match="LRF_TEST_KEY") as caught:
        client_for("http://localhost:1")
    assert value not in str(caught.value)


async def test_white_space_around_a_key_is_left_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRF_TEST_KEY", f"  {KEY}\n")

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(request.headers["Authorization"])

    assert await post(await serve(handler)) == f"Bearer {KEY}"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=2_000))
async def test_a_servers_words_are_quoted_in_one_short_printable_line(text: str) -> None:
    client = client_for("http://localhost:1")
    line = str(client.error(500, {"error": {"message": text}}, {}))
    assert line.isprintable() or all(c.isprintable() or c.isspace() for c in line)
    assert "\n" not in line
    assert len(line) < 500


async def test_calls_share_connections_and_never_exceed_max_concurrency(serve: Serve) -> None:
    open_now, most, peers = 0, 0, set()

    async def handler(request: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(0.01)
        open_now -= 1
        return web.json_response({})

    client = client_for(await serve(handler), max_concurrency=4)
    await asyncio.gather(*(client.post("/x", {}) for _ in range(40)))
    await client.aclose()
    assert most == 4
    assert len(peers) == 4


async def test_one_client_serves_several_event_loops_and_closes_them_all(serve: Serve) -> None:
    url = await serve(always(200, '{"ok": true}'))
    client = client_for(url)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(asyncio.run(client.post("/x", {}))))
    thread.start()
    await asyncio.to_thread(thread.join)

    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    other = asyncio.run_coroutine_threadsafe(client.post("/x", {}), loop)
    assert await asyncio.wrap_future(other) == await client.post("/x", {}) == ended[0] == {"ok": True}
    await client.aclose()
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(running.join)
    loop.close()


async def test_event_loops_that_have_ended_are_forgotten(serve: Serve) -> None:
    client = client_for(await serve(always()))
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await client.post("/x", {})

    def ask_ten_times() -> None:
        for _ in range(10):
            asyncio.run(ask())

    await asyncio.to_thread(ask_ten_times)
    await client.post("/x", {})
    gc.collect()
    assert [loop for loop in loops if loop() is not None] == []
    await client.aclose()


async def test_closing_waits_no_longer_than_a_moment_for_an_event_loop_that_is_ending(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.transport._CLOSING_S", 0.2)
    client = client_for(await serve(always()))
    asked, free = threading.Event(), threading.Event()

    async def ask_then_block() -> None:
        await client.post("/x", {})
        asked.set()
        free.wait(20)

    thread = threading.Thread(target=lambda: asyncio.run(ask_then_block()))
    thread.start()
    await asyncio.to_thread(asked.wait, 20)
    async with asyncio.timeout(10):
        await client.aclose()
    free.set()
    await asyncio.to_thread(thread.join)


async def test_a_closed_client_opens_again_when_asked(serve: Serve) -> None:
    client = client_for(await serve(always()))
    await client.post("/x", {})
    await client.aclose()
    assert await client.post("/x", {}) == {}
    await client.aclose()
    await client.aclose()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": "localhost:8000/v1"}, "must be an http:// or https:// address"),
        ({"base_url": "ftp://host/v1"}, "must be an http:// or https:// address"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "must not hold a user name or a password"),
        ({"base_url": f"https://host/v1?key={KEY}"}, 'no "\\?" and no "#"'),
        ({"api_key_env": KEY}, "name of an environment variable"),
        ({"api_key_env": "gsk_" + KEY.replace("-", "0") * 3}, "name of an environment variable"),
        ({"header_env": {"X-Key": KEY}}, "name of an environment variable"),
        ({"header_env": {f"X-Key: {KEY}": "VARIABLE"}}, "names of HTTP headers"),
        ({"model": ""}, "at least 1 character"),
        ({"max_concurrency": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_showing_a_key(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        client_for("http://host/v1", **settings)
    assert KEY not in str(caught.value)
