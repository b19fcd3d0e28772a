"""The HTTP client against servers that answer oddly, break off, or send too much; byte by byte on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import itertools
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import BadReplyError, JudgeError, RateLimitedError, RejectedError, TimedOutError, UnavailableError
from lrf.http.client import HttpClient
from lrf.http.settings import EndpointSettings
from sockets import CLOSE, one_request, saying, socket_server, whole
from waiting import eventually

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b'4\r\n"hel\r\n3;x=y\r\nlo"\r\n0\r\nX-Late: 1\r\n\r\n'
)


@asynccontextmanager
async def client_of(port: int, **settings: Any) -> AsyncIterator[HttpClient]:
    base = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "m", "api_key_env": "LRF_UNSET_KEY"}
    client = HttpClient(EndpointSettings(**{**base, "request_timeout_s": 20, **settings}))
    try:
        yield client
    finally:
        await client.aclose()


async def reply_to(*said: bytes, **settings: Any) -> Any:
    """The value of the last of as many calls as there are answers."""
    async with socket_server(saying(*said)) as port, client_of(port, **settings) as client:
        return [await client.post("/x", {}) for _ in said][-1]


def packed(encoding: str, body: bytes) -> bytes:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}[encoding]
    return pack(body)


PACKINGS = ("gzip", "deflate", "br", "zstd")
FORMS = {
    "length": whole(),
    "chunked": CHUNKED,
    "to the end": b'HTTP/1.1 200 OK\r\n\r\n"hello"' + CLOSE,
    "HTTP/1.0": b'HTTP/1.0 200 Fine\r\nContent-Type: text/plain\r\n\r\n"hello"' + CLOSE,
    "continue": b"HTTP/1.1 100 Continue\r\nX-B: c\r\n\r\n" + whole(),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + CHUNKED,
    "no encoding": whole(b'"hello"', "200 OK", "Content-Encoding: "),
    "odd encoding": whole(b'"hello"', "200 OK", "Content-Encoding: utf-8"),
    "created": whole(b'"hello"', "201 Created"),
    "line feeds": whole().replace(b"\r\n", b"\n"),
    "folded": whole(b'"hello"', "200 OK", "X-Folded: a", " b"),
    "long header": whole(b'"hello"', "200 OK", "X-Long: " + "a" * 30_000),
    "spaces": CHUNKED.replace(b"4\r", b"4  \r"),
    "byte order mark": whole(b'\xef\xbb\xbf"hello"'),
    "trailer": CHUNKED.replace(b"X-Late: 1", b"Content-Encoding: br"),
    **{how: whole(packed(how, b'"hello"'), "200 OK", f"Content-Encoding: {how}") for how in PACKINGS},
    "two members": whole(gzip.compress(b'"hel') + gzip.compress(b'lo"'), "200 OK", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("said", FORMS.values(), ids=FORMS)
async def test_a_body_is_read_in_every_form(said: bytes) -> None:
    assert await reply_to(said) == "hello"


@given(st.sampled_from([whole(), CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED]), st.data())
async def test_a_reply_is_the_same_however_it_is_cut_into_pieces(said: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said) - 1), max_size=6)))
    pieces = [said[a:b] for a, b in itertools.pairwise([0, *cuts, len(said)])]

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await one_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async with socket_server(speak) as port, client_of(port) as client:
        assert [await client.post("/x", {}), await client.post("/x", {})] == ["hello", "hello"]


async def test_a_request_has_what_servers_need_and_one_host_header() -> None:
    asked: list[bytes] = []
    async with socket_server(saying(whole(), whole(), asked=asked)) as port, client_of(port) as client:
        await client.post("/x y?a=b", {"a": 1})
        await client.get_json("/z")
    assert asked[0].startswith(b"POST /v1/x%20y?a=b HTTP/1.1\r\n")
    assert asked[0].endswith(b'\r\nContent-Length: 7\r\n\r\n{"a":1}')
    assert asked[0].count(b"\r\nHost: 127.0.0.1:%d\r\n" % port) == 1
    assert asked[1].startswith(b"GET /v1/z HTTP/1.1\r\n")


async def test_a_host_header_of_the_users_own_replaces_lrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRF_TEST_HOST", "judge.example")
    asked: list[bytes] = []
    async with (
        socket_server(saying(whole(), asked=asked)) as port,
        client_of(port, header_env={"host": "LRF_TEST_HOST"}) as client,
    ):
        await client.post("/x", {})
    assert [line for line in asked[0].split(b"\r\n") if line.lower().startswith(b"host:")] == [b"host: judge.example"]


@pytest.mark.parametrize(
    "first",
    [
        whole(b"1", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
        whole(b"1") + whole(b'"never asked for"'),
        whole(b"1") + CLOSE,
    ],
    ids=["close", "http-1.0", "two-answers", "closed-silently"],
)
async def test_a_connection_that_may_not_be_used_again_is_not(first: bytes) -> None:
    async with socket_server(saying(first, whole(b"2"))) as port, client_of(port) as client:
        assert await client.post("/x", {}) == 1
        await asyncio.sleep(0.05)
        assert await client.post("/x", {}) == 2


async def test_what_comes_on_an_idle_connection_is_no_reply_to_the_next_request() -> None:
    said = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await one_request(reader):
            writer.write(whole())
            await asyncio.sleep(0.05)
            writer.write(whole(b'"an answer to nothing"'))
            said.set()

    async with socket_server(speak) as port, client_of(port) as client:
        for _ in range(3):
            said.clear()
            assert await client.post("/x", {}) == "hello"
            await said.wait()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("warm", [False, True], ids=["new-connection", "kept-connection"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_post_whose_connection_ends_is_sent_once_and_may_have_been_served(warm: bool, end: str) -> None:
    requests = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await one_request(reader):
            requests += 1
            if requests > warm:
                if end == "reset":
                    writer.transport.abort()
                return
            writer.write(whole())

    async with socket_server(speak) as port, client_of(port) as client:
        if warm:
            await client.post("/x", {})
        for number in range(1, 6):
            with pytest.raises(UnavailableError, match="connection broke") as caught:
                await client.post("/x", {})
            assert caught.value.sent
            assert requests == number + warm


async def test_a_connection_that_ends_within_the_headers_is_told_in_words() -> None:
    with pytest.raises(UnavailableError, match=r"the server closed the connection within the headers\b") as caught:
        await reply_to(b"HTTP/1.1 200 OK\r\nContent-Type: appl" + CLOSE)
    assert caught.value.sent
    assert "RawResponseMessage" not in str(caught.value)


async def test_of_many_stale_connections_no_call_reaches_the_server_twice() -> None:
    asked: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await one_request(reader))
        writer.write(whole())
        await asyncio.sleep(0.05)  # then closed, while the client may be using it

    async with socket_server(speak) as port, client_of(port) as client:

        async def call(number: int) -> str:
            try:
                return str(await client.post("/x", {"number": number}))
            except UnavailableError as error:
                return "sent" if error.sent else "not sent"

        for turn in range(4):
            replies = await asyncio.gather(*(call(100 * turn + n) for n in range(20)))
            assert set(replies) <= {"hello", "sent"}
            await asyncio.sleep(0.04 + 0.005 * turn)
    assert len({request.split(b"\r\n\r\n")[1] for request in asked}) == len(asked) <= 80


OK = b"HTTP/1.1 200 OK\r\n"
NO_REPLIES = {
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "binary": b"\x00\xff" * 100,
    "cut": OK + b"Content-Length: 10\r\n\r\nhello" + CLOSE,
    "cut chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel" + CLOSE,
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "too much": whole(b"1") + b"more than that",
    "negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "endless header": OK + b"X-A: " + b"a" * 2_000_000,
    "endless headers": OK + b"X-A: b\r\n" * 200_000,
    "endless trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + b"X-A: b\r\n" * 200_000,
    "not packed": whole(b"hello", "200 OK", "Content-Encoding: gzip"),
    "packed and cut": whole(gzip.compress(b'"hello"' * 1_000)[:-20], "200 OK", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("said", NO_REPLIES.values(), ids=NO_REPLIES)
async def test_what_is_no_reply_is_an_error_worth_another_attempt_and_counted_as_sent(said: bytes) -> None:
    with pytest.raises((UnavailableError, BadReplyError)) as caught:
        await reply_to(said)
    assert caught.value.sent


@pytest.mark.parametrize(
    "said",
    [
        whole(b"x" * 20_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"x" * 1024) * 20,
    ],
    ids=["length", "length-alone", "to-the-end", "chunked"],
)
async def test_a_body_above_the_limit_is_refused_without_waiting_for_its_end(said: bytes) -> None:
    with pytest.raises(BadReplyError, match="longer than"):
        await reply_to(said, max_reply_mb=0.01)


@pytest.mark.parametrize("encoding", PACKINGS)
async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused_without_waiting_for_its_end(encoding: str) -> None:
    small = packed(encoding, b"x" * 20_000_000)[:-4]
    with pytest.raises(BadReplyError, match="longer than"):
        await reply_to(whole(small, "200 OK", f"Content-Encoding: {encoding}"), max_reply_mb=0.5)


async def test_a_body_in_chunks_of_two_bytes_takes_time_in_proportion_to_its_length() -> None:
    async def seconds(size: int) -> float:
        said = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"2\r\n  \r\n" * (size // 2) + b"1\r\n7\r\n0\r\n\r\n"
        begun = time.process_time()
        assert await reply_to(said, request_timeout_s=120) == 7
        return time.process_time() - begun

    await seconds(1_000)
    assert await seconds(800_000) < 20 * await seconds(100_000)  # eight times as long; were it quadratic, 64


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "nonsense", "empty", "trailing"])
async def test_an_error_whose_body_cannot_be_read_keeps_its_status(encoding: str, damage: str) -> None:
    good = packed(encoding, b"overloaded " * 10_000)
    body = {"cut": good[: len(good) // 2], "nonsense": b"nonsense", "empty": b"", "trailing": good + b"x" * 50}[damage]
    with pytest.raises(RateLimitedError, match="status 429") as caught:
        await reply_to(whole(body, "429 Slow", f"Content-Encoding: {encoding}", "Retry-After: 7"))
    assert caught.value.retry_after_s == 7


async def test_an_answer_that_comes_before_the_request_is_sent_ends_the_connections_use() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        small = b"Content-Length: 2\r" in head
        writer.write(whole() if small else whole(b"too large", "413 Too Large"))
        await writer.drain()
        await asyncio.sleep(3600)  # the rest of the request is never read

    async with socket_server(speak) as port, client_of(port) as client:
        with pytest.raises(RejectedError, match="too large"):
            await client.post("/x", {"text": " " * 30_000_000})
        assert await client.post("/x", {}) == "hello"


@pytest.mark.parametrize("give_up", ["deadline", "cancel"])
@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"], ids=["silent", "amid-the-body"]
)
async def test_a_call_that_is_given_up_closes_its_connection_and_frees_its_place(give_up: str, begun: bytes) -> None:
    open_now = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        await one_request(reader)
        writer.write(begun)
        await reader.read()
        open_now -= 1

    async with socket_server(speak) as port, client_of(port, max_concurrency=1) as client:
        for _ in range(3):
            if give_up == "deadline":
                with pytest.raises(TimedOutError) as caught:
                    await client.post("/x", {}, timeout_s=0.5)
                assert caught.value.sent
            else:
                call = asyncio.create_task(client.post("/x", {}))
                await eventually(lambda: open_now == 1)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            await eventually(lambda: open_now == 0)


async def test_a_deadline_before_there_is_a_connection_means_that_nothing_was_sent() -> None:
    taken = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await asyncio.sleep(3600)

    async with socket_server(speak) as port, client_of(port, max_concurrency=1) as client:
        first = asyncio.create_task(client.post("/x", {}))
        await taken.wait()
        with pytest.raises(TimedOutError) as caught:  # in the queue for the only connection
            await client.post("/x", {}, timeout_s=0.1)
        assert not caught.value.sent
        first.cancel()


async def test_closing_ends_calls_in_flight_and_in_the_queue_and_leaves_no_connection() -> None:
    open_now = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        await one_request(reader)
        open_now += 1
        await reader.read()
        open_now -= 1

    async with socket_server(speak) as port, client_of(port, max_concurrency=1) as client:
        calls = [asyncio.create_task(client.post("/x", {})) for _ in range(3)]
        await eventually(lambda: open_now == 1)
        await client.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
        assert [outcome.sent for outcome in outcomes if isinstance(outcome, JudgeError)] == [True, False, False]
        await eventually(lambda: open_now == 0)


async def test_errors_leave_no_reference_cycles_with_their_bodies() -> None:
    answers = [whole(b"x" * 20_000, "400 Bad"), whole(b"nonsense"), b"nonsense\r\n\r\n", whole(b"1")] * 10
    async with socket_server(saying(*answers)) as port, client_of(port) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in answers:
                with contextlib.suppress(JudgeError):
                    await client.post("/x", {})
            await client.aclose()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [type(o).__name__ for o in gc.garbage if isinstance(o, JudgeError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []
