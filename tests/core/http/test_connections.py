"""Connections to servers: what is sent and read, byte by byte, on sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import itertools
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import JudgeMisconfiguredError, TimedOutError, UnavailableError
from lrf.http.client import HttpClient
from lrf.http.connections import Answer, Broken, CannotConnect, Connections, TooLong, _Connection
from lrf.http.settings import EndpointSettings
from lrf.http.target import Target

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CLOSE = b"<close>"


@asynccontextmanager
async def server(speak: Speak, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on which ``speak`` talks to each connection."""
    tasks = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.ensure_future(speak(reader, writer)))
        await asyncio.gather(task, return_exceptions=True)
        writer.close()

    listening = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in tasks:
            task.cancel()


def saying(*answers: bytes, asked: list[bytes] | None = None) -> Speak:
    """Gives these answers, one a request; CLOSE at the end of one closes the connection after it."""
    left = iter(answers)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await one_request(reader)) and (answer := next(left, None)) is not None:
            if asked is not None:
                asked.append(request)
            writer.write(answer.removesuffix(CLOSE))
            await writer.drain()
            if answer.endswith(CLOSE):
                return

    return speak


async def one_request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")


@asynccontextmanager
async def connected(port: int, most: int = 8, keep_s: float = 4.0) -> AsyncIterator[Connections]:
    connections = Connections(Target(f"http://127.0.0.1:{port}/v1"), most, keep_s=keep_s)
    try:
        yield connections
    finally:
        await connections.aclose()


async def ask(connections: Connections, *, most: int = 1_000_000, most_of_error: int = 1_000) -> Answer:
    head = Target("http://127.0.0.1:1/v1").head("POST", "/x", {})
    async with asyncio.timeout(20):
        return await connections.ask(head, b"{}", most=most, most_of_error=most_of_error)


async def answer_to(said: bytes, **limits: int) -> Answer:
    async with server(saying(said)) as port, connected(port) as connections:
        return await ask(connections, **limits)


def whole(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Late: 1\r\n\r\n"
)


@pytest.mark.parametrize(
    "said",
    [
        whole(),
        CHUNKED,
        b"HTTP/1.1 200 OK\r\n\r\nhello" + CLOSE,
        b"HTTP/1.0 200 Fine\r\nContent-Type: text/plain\r\n\r\nhello" + CLOSE,
        b"HTTP/1.1 100 Continue\r\nX-B: c\r\n\r\n" + whole(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + CHUNKED,
        whole(gzip.compress(b"hello", mtime=0), "200 OK", "Content-Encoding: gzip"),
        whole(zlib.compress(b"hello"), "200 OK", "Content-Encoding: Deflate"),
        whole(b"hello", "200 OK", "Content-Encoding: "),
        whole(b"hello", "200 OK", "Content-Encoding: utf-8"),
        whole(b"hello").replace(b"\r\n", b"\n"),
        whole(b"hello", "200 OK", "X-Folded: a", " b"),
        CHUNKED.replace(b"3\r", b"3  \r"),
        CHUNKED.replace(b"X-Late: 1", b"Content-Encoding: br"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello" + CLOSE,
    ],
    ids=[
        "length",
        "chunked",
        "to-the-end",
        "http-1.0",
        "continue",
        "early-hints",
        "gzip",
        "deflate",
        "no-encoding",
        "odd-encoding",
        "line-feeds",
        "folded",
        "spaces",
        "trailer",
        "identity",
    ],
)
async def test_a_body_is_read_in_whatever_form_it_comes(said: bytes) -> None:
    answer = await answer_to(said)
    assert (answer.status, answer.body) == (200, b"hello")
    assert "x-b" not in answer.headers
    assert "link" not in answer.headers


@given(st.sampled_from([whole(b"hello" * 30), CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED]), st.data())
async def test_an_answer_is_the_same_however_it_is_cut_into_pieces(said: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said) - 1), max_size=6)))
    pieces = [said[a:b] for a, b in itertools.pairwise([0, *cuts, len(said)])]

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await one_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async with server(speak) as port, connected(port) as connections:
        first, second = await ask(connections), await ask(connections)
    assert first == second == await answer_to(said)


async def test_a_connection_is_used_again_and_sends_what_the_server_needs() -> None:
    asked: list[bytes] = []
    peers = set()
    answering = saying(whole(b"1"), whole(b"", "204 No Content"), CHUNKED, whole(b"4", "500 No"), asked=asked)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        await answering(reader, writer)

    async with server(speak) as port, connected(port) as connections:
        got = [await ask(connections) for _ in range(4)]
    assert [(a.status, a.body) for a in got] == [(200, b"1"), (204, b""), (200, b"hello"), (500, b"4")]
    assert len(peers) == 1
    assert asked[0] == b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "first",
    [
        whole(b"1", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
        whole(b"1") + whole(b"never asked for"),
        whole(b"1") + b"more than that",
        whole(b"1") + CLOSE,
    ],
    ids=["close", "http-1.0", "two-answers", "too-much", "closed-silently"],
)
async def test_a_connection_that_may_not_be_used_again_is_not(first: bytes) -> None:
    async with server(saying(first, whole(b"2"))) as port, connected(port) as connections:
        assert (await ask(connections)).body == b"1"
        await asyncio.sleep(0.05)
        assert (await ask(connections)).body == b"2"


async def test_what_comes_on_an_idle_connection_closes_it() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await one_request(reader):
            writer.write(whole())
            await asyncio.sleep(0.05)
            writer.write(whole(b"an answer to nothing"))

    async with server(speak) as port, connected(port) as connections:
        for _ in range(3):
            assert (await ask(connections)).body == b"hello"
            await asyncio.sleep(0.1)


async def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    peers = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(1)
        await saying(whole(), whole())(reader, writer)

    async with server(speak) as port, connected(port, keep_s=0.05) as connections:
        await ask(connections)
        await asyncio.sleep(0.2)
        await ask(connections)
        await ask(connections)
    assert len(peers) == 2


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x00\xff" * 100,
        CLOSE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello" + CLOSE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel" + CLOSE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + b"X-A: b\r\n" * 200_000,
        whole(b"hello", "200 OK", "Content-Encoding: gzip"),
        whole(gzip.compress(b"hello" * 1_000, mtime=0)[:-20], "200 OK", "Content-Encoding: gzip"),
        whole(gzip.compress(b"hello", mtime=0)[:-8], "200 OK", "Content-Encoding: gzip"),
        whole(gzip.compress(b"hello", mtime=0) + gzip.compress(b"world", mtime=0), "200 OK", "Content-Encoding: gzip"),
    ],
    ids=[
        "ssh",
        "binary",
        "nothing",
        "cut",
        "cut-chunk",
        "no-chunk",
        "two-lengths",
        "negative-length",
        "huge-length",
        "upgrade",
        "endless-header",
        "endless-headers",
        "endless-trailers",
        "not-packed",
        "packed-cut",
        "no-checksum",
        "two-packed",
    ],
)
async def test_what_is_no_answer_is_a_broken_connection(said: bytes) -> None:
    with pytest.raises(Broken):
        await answer_to(said)


@pytest.mark.parametrize(
    "said",
    [
        whole(b"x" * 2_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"x" * 1024) * 3,
        whole(gzip.compress(b"x" * 50_000_000, mtime=0), "200 OK", "Content-Encoding: gzip"),
    ],
    ids=["length", "length-alone", "to-the-end", "chunked", "packed"],
)
async def test_a_body_above_the_limit_is_refused_without_waiting_for_its_end(said: bytes) -> None:
    with pytest.raises(TooLong):
        await answer_to(said, most=60_000 if b"gzip" in said else 1_000)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_error_whose_body_cannot_be_read_keeps_its_status(encoding: str) -> None:
    packed = gzip.compress(b"overloaded " * 10_000, mtime=0) + b"x" * 5_000
    for body in (packed, packed[:40], b"nonsense", b""):
        answer = await answer_to(whole(body, "429 Slow", f"Content-Encoding: {encoding}", "Retry-After: 7"))
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert len(answer.body) <= 1_000
    assert (await answer_to(whole(packed, "429 Slow", "Content-Encoding: gzip"))).body.startswith(b"overloaded over")


@pytest.mark.parametrize("most", [1, 4])
async def test_calls_that_wait_their_turn_get_no_connection_that_is_being_closed(most: int) -> None:
    async with server(saying(*[whole(b"1") + CLOSE] * 40)) as port, connected(port, most=most) as connections:
        answers = await asyncio.gather(*(ask(connections) for _ in range(20)))
    assert [a.body for a in answers] == [b"1"] * 20


async def test_an_answer_that_comes_before_the_request_is_sent_ends_the_connections_use() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length: 2\r" in head:
            writer.write(whole(b"small"))
        else:  # answered without having been read
            writer.write(whole(b"too large", "413 Too Large"))
        await writer.drain()
        await asyncio.sleep(3600)

    async with server(speak) as port, connected(port) as connections:
        head = Target("http://a").head("POST", "/x", {})
        async with asyncio.timeout(20):
            large = await connections.ask(head, b" " * 30_000_000, most=1_000, most_of_error=1_000)
        assert (large.status, large.body) == (413, b"too large")
        assert (await ask(connections)).body == b"small"


async def test_of_a_long_error_the_beginning_is_kept() -> None:
    answer = await answer_to(b"HTTP/1.1 503 Busy\r\n\r\n" + b"overloaded " * 1_000, most_of_error=20)
    assert (answer.status, answer.body) == (503, b"overloaded overloade")


async def test_who_gives_up_leaves_no_connection_and_no_place_taken() -> None:
    open_now = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        await one_request(reader)
        await reader.read()
        open_now -= 1

    async with server(speak) as port, connected(port, most=1) as connections:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(connections), 0.05)
        await asyncio.sleep(0.1)
        assert open_now == 0


async def test_a_request_is_sent_again_once_and_only_where_a_kept_connection_gave_no_byte() -> None:
    requests = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await one_request(reader):
            requests += 1
            if requests > 4:
                return
            writer.write(whole())
            await asyncio.sleep(0.02)

    async with server(speak) as port, connected(port) as connections:
        await asyncio.gather(*(ask(connections) for _ in range(4)))  # four connections are kept
        await asyncio.sleep(0.1)
        with pytest.raises(Broken):
            await ask(connections)
        assert requests == 6  # over one of the kept connections, and over a new one

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(whole(), b"HTTP/1.1 200 OK\r\n" + CLOSE)(reader, writer)

    async with server(half) as port, connected(port) as connections:
        await ask(connections)
        with pytest.raises(Broken):
            await ask(connections)


async def test_closing_ends_what_waits_for_an_answer() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(speak) as port, connected(port) as connections:
        waiting = asyncio.create_task(ask(connections))
        await asyncio.sleep(0.05)
        await connections.aclose()
        with pytest.raises(Broken):
            await waiting


async def test_closing_reaches_those_that_wait_for_a_turn_and_leaves_no_connection() -> None:
    open_now = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        while await one_request(reader):
            await asyncio.sleep(0.05)
            writer.write(whole())
        open_now -= 1

    async with server(speak) as port, connected(port, most=1) as connections:
        waiting = [asyncio.create_task(ask(connections)) for _ in range(3)]
        await asyncio.sleep(0.02)
        await connections.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(o) for o in outcomes] == [Broken] * 3
        await asyncio.sleep(0.2)
        assert open_now == 0


async def test_connections_and_errors_leave_nothing_for_the_collector() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello" + CLOSE
    broken = whole(b"1"), cut, whole(b"x" * 2_000), b"nonsense\r\n"
    said = [answer for n in range(10) for answer in (whole(b"1", "200 OK", "Connection: close"), broken[n % 4])]
    answers = iter(said)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(next(answers))(reader, writer)

    async with server(speak) as port, connected(port) as connections:
        gc.collect()
        gc.disable()
        try:
            for _ in said:
                with contextlib.suppress(Broken, TooLong):
                    await ask(connections, most=1_000)
            await connections.aclose()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [type(o).__name__ for o in gc.garbage if isinstance(o, Broken | TooLong | Answer | _Connection)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []


# --- encrypted, and through proxies ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Of a server that has a certificate for this machine's names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1", "judge.example").configure_cert(context)
    return context


@contextmanager
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with authority.cert_pem.tempfile() as path, monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", path)
        yield


async def posted(url: str) -> Any:
    client = HttpClient(EndpointSettings(base_url=url, model="m", api_key_env="LRF_UNSET_KEY", request_timeout_s=20))
    try:
        return [await client.post("/x", {}) for _ in range(2)]
    finally:
        await client.aclose()


async def test_an_encrypted_server_whose_certificate_is_trusted_is_asked(
    tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = b'{"text": "%b"}' % (b"a" * 3_000_000)
    with trusted(authority, monkeypatch):
        async with server(saying(whole(b'{"a": 1}'), whole(long)), tls) as port:
            first, second = await posted(f"https://localhost:{port}/v1")
    assert first == {"a": 1}
    assert len(second["text"]) == 3_000_000


async def test_a_certificate_that_is_not_trusted_or_of_another_name_stops_the_run(
    tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("judge.example").configure_cert(other)
    async with server(saying(whole(b"{}")), tls) as unknown, server(saying(whole(b"{}")), other) as misnamed:
        with pytest.raises(JudgeMisconfiguredError, match="certificate is not trusted"):
            await posted(f"https://localhost:{unknown}/v1")
        with trusted(authority, monkeypatch), pytest.raises(JudgeMisconfiguredError, match="not valid for 'localhost'"):
            await posted(f"https://localhost:{misnamed}/v1")


async def test_encryption_with_a_server_that_has_none_is_unavailable() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(b"", "400 The plain HTTP request was sent to another port"))
        await writer.drain()

    async with server(speak) as port:
        with pytest.raises(UnavailableError, match="can't connect"):
            await posted(f"https://127.0.0.1:{port}/v1")


def proxying(to: int, asked: list[bytes], answer: bytes = b"HTTP/1.1 200 Connected\r\nX-Proxy: 1\r\n\r\n") -> Speak:
    """A proxy that has CONNECT, and takes any host for this machine."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await one_request(reader))
        writer.write(answer)
        await writer.drain()
        there, here = await asyncio.open_connection("127.0.0.1", to)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while part := await source.read(65_536):
                sink.write(part)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, here), pump(there, writer))

    return speak


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxy")
async def test_an_encrypted_server_is_reached_through_a_proxy_that_reads_nothing(
    tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    with trusted(authority, monkeypatch):
        async with (
            server(saying(whole(b'{"a": 1}'), whole(b'{"a": 2}')), tls) as port,
            server(proxying(port, asked)) as proxy,
        ):
            monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy}")
            assert await posted("https://judge.example/v1") == [{"a": 1}, {"a": 2}]
    assert asked == [
        b"CONNECT judge.example:443 HTTP/1.1\r\nHost: judge.example:443\r\n"
        b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
    ]


@pytest.mark.usefixtures("no_proxy")
async def test_a_proxy_that_falls_silent_can_be_given_up_and_the_client_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one_request(reader)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.sleep(3600)

    async with server(silent) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        endpoint = EndpointSettings(base_url="https://judge.example/v1", model="m", api_key_env="LRF_UNSET_KEY")
        client = HttpClient(endpoint)
        with pytest.raises(TimedOutError):
            await client.post("/x", {}, timeout_s=0.1)
        (connections,) = client._connections.values()
        assert not connections._open
        waiting = asyncio.create_task(client.post("/x", {}))
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises(UnavailableError):
            await waiting


@pytest.mark.usefixtures("no_proxy")
async def test_a_proxy_that_refuses_is_named_and_its_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with server(proxying(1, asked, refusal)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:secret-word@127.0.0.1:{proxy}")
        with pytest.raises(UnavailableError, match="the proxy answered with status 407") as caught:
            await posted("https://judge.example/v1")
    assert "secret-word" not in str(caught.value)


@pytest.mark.usefixtures("no_proxy")
async def test_a_kind_of_proxy_that_lrf_cannot_speak_with_is_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://me:secret-word@127.0.0.1:1080")
    with pytest.raises(JudgeMisconfiguredError, match="only proxies whose address begins with http://") as caught:
        await posted("https://judge.example/v1")
    assert "secret-word" not in str(caught.value)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "proxy", ["http://me:secret/word@proxy:3128", "http://me:secret\uff20word@proxy:3128", "http://:1"]
)
async def test_a_proxys_address_that_is_none_is_not_shown(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(JudgeMisconfiguredError, match="proxy's address") as caught:
        await posted("https://judge.example/v1")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(Target("https://judge.example", "http://me:secret@proxy:3128"))


async def test_an_encrypted_connection_given_up_at_any_moment_leaves_no_noise(
    tls: ssl.SSLContext,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with trusted(authority, monkeypatch):
        async with server(saying(*[whole(b"{}")] * 100), tls) as port:
            connections = Connections(Target(f"https://localhost:{port}"), 1, keep_s=4)
            for turns in range(24):
                task = asyncio.create_task(ask(connections))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert (await ask(connections)).body == b"{}"
            await connections.aclose()
    assert "eof_received" not in caplog.text


async def test_a_host_that_is_not_there_cannot_be_connected_to(unused_tcp_port: int) -> None:
    connections = Connections(Target(f"http://127.0.0.1:{unused_tcp_port}"), 1, keep_s=1)
    with pytest.raises(CannotConnect):
        await ask(connections)
    await connections.aclose()
