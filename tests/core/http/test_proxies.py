"""The HTTP client over TLS and through the environment's proxies."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

from lrf.errors import JudgeMisconfiguredError, TimedOutError, UnavailableError
from lrf.http.client import HttpClient
from lrf.http.proxies import is_bypassed, proxy_for
from lrf.http.settings import EndpointSettings
from lrf.http.target import Target, host_and_port
from sockets import http_proxy, one_request, saying, socket_server, socks5_proxy, whole

SECRET = "secret-word"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Of a server that has a certificate for this machine's names."""
    return server_tls(authority, "localhost", "127.0.0.1", "judge.example")


def server_tls(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@contextmanager
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with authority.cert_pem.tempfile() as path, monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", path)
        yield


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client_of(url: str) -> HttpClient:
    return HttpClient(EndpointSettings(base_url=url, model="m", api_key_env="LRF_UNSET_KEY", request_timeout_s=20))


async def posted_twice(url: str) -> Any:
    client = client_of(url)
    try:
        return [await client.post("/x", {}) for _ in range(2)]
    finally:
        await client.aclose()


async def test_an_encrypted_server_whose_certificate_is_trusted_is_asked(
    tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = b'{"text": "%b"}' % (b"a" * 3_000_000)
    with trusted(authority, monkeypatch):
        async with socket_server(saying(whole(b'{"a": 1}'), whole(long)), tls) as port:
            first, second = await posted_twice(f"https://localhost:{port}/v1")
    assert first == {"a": 1}
    assert len(second["text"]) == 3_000_000


@pytest.mark.parametrize(
    ("names", "expired", "is_trusted", "says"),
    [
        (("localhost",), False, False, "unable to get local issuer certificate"),
        (("judge.example",), False, True, "not valid for 'localhost'"),
        (("localhost",), True, True, "certificate has expired"),
    ],
    ids=["unknown", "other-name", "expired"],
)
async def test_a_certificate_that_is_not_trusted_stops_the_run_and_says_why(
    names: tuple[str, ...],
    expired: bool,
    is_trusted: bool,
    says: str,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"not_after": datetime.now(UTC) - timedelta(days=1)} if expired else {}
    context = server_tls(authority, *names, **options)
    with trusted(authority if is_trusted else trustme.CA(), monkeypatch):
        async with socket_server(saying(whole(b"{}")), context) as port:
            with pytest.raises(JudgeMisconfiguredError, match=f"not trusted: .*{says}.*SSL_CERT_FILE"):
                await posted_twice(f"https://localhost:{port}/v1")


async def test_encryption_with_a_server_that_has_none_is_unavailable_and_says_so() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(b"", "400 The plain HTTP request was sent to another port"))
        await writer.drain()

    async with socket_server(speak) as port:
        with pytest.raises(UnavailableError, match=r"can't connect .*SSL") as caught:
            await posted_twice(f"https://127.0.0.1:{port}/v1")
    assert not caught.value.sent


async def test_an_encrypted_call_given_up_at_any_moment_leaves_no_noise_and_a_client_that_works(
    tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with trusted(authority, monkeypatch):
        async with socket_server(saying(*[whole(b"{}")] * 100), tls) as port:
            client = client_of(f"https://localhost:{port}")
            for turns in range(24):
                call = asyncio.create_task(client.post("/x", {}))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
            assert await client.post("/x", {}) == {}
            await client.aclose()
    assert caplog.text == ""


@pytest.mark.parametrize("encrypted", [False, True], ids=["http-proxy", "https-proxy"])
async def test_an_encrypted_server_is_reached_through_a_proxy_that_reads_nothing(
    encrypted: bool, tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    served: list[bytes] = []
    with trusted(authority, monkeypatch):
        async with (
            socket_server(saying(whole(b'{"a": 1}'), whole(b'{"a": 2}'), asked=served), tls) as port,
            socket_server(http_proxy(port, asked), tls if encrypted else None) as proxy,
        ):
            scheme = "https" if encrypted else "http"
            monkeypatch.setenv("https_proxy", f"{scheme}://me:p%40ss@127.0.0.1:{proxy}")
            assert await posted_twice("https://judge.example/v1") == [{"a": 1}, {"a": 2}]
    assert len(asked) == 1
    assert asked[0].startswith(b"CONNECT judge.example:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in asked[0]
    assert b"Proxy-Authorization" not in b"".join(served)


async def test_a_plain_server_is_asked_through_the_proxy_with_the_whole_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    async with socket_server(saying(whole(b"1"), whole(b"2"), asked=asked)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"me:p%40ss@127.0.0.1:{proxy}")  # a scheme may be left out
        assert await posted_twice("http://judge.example/v1") == [1, 2]
    for request in asked:
        assert request.startswith(b"POST http://judge.example/v1/x HTTP/1.1\r\n")
        assert b"\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n" in request


async def test_a_proxy_that_falls_silent_can_be_given_up_and_the_client_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one_request(reader)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.sleep(3600)

    async with socket_server(silent) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        client = client_of("https://judge.example/v1")
        with pytest.raises(TimedOutError) as caught:
            await client.post("/x", {}, timeout_s=0.1)
        assert not caught.value.sent
        await client.aclose()


async def test_a_proxy_that_refuses_is_named_and_its_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = whole(SECRET.encode(), f"407 Proxy Authentication Required {SECRET}")
    async with socket_server(http_proxy(1, [], refusal)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@127.0.0.1:{proxy}")
        with pytest.raises(UnavailableError, match="the proxy answered with status 407") as caught:
            await posted_twice("https://judge.example/v1")
    assert SECRET not in str(caught.value)
    assert not caught.value.sent


@pytest.mark.parametrize("url", ["http://judge.example/v1", "https://judge.example/v1"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks4"])
async def test_a_proxy_that_is_not_there_is_unavailable_without_its_password(
    scheme: str, url: str, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:{SECRET}@127.0.0.1:{unused_tcp_port}")
    with pytest.raises(UnavailableError, match="can't connect") as caught:
        await posted_twice(url)
    assert SECRET not in str(caught.value)
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        (f"http://me:{SECRET}/word@proxy:3128", "proxy's address has no host"),
        (f"http://me:{SECRET}\uff20word@proxy:3128", "proxy's address has no host"),
        ("http://:1", "proxy's address has no host"),
        (f"ftp://me:{SECRET}@proxy:21", "must begin with http://, https://, socks5:// or socks4://"),
    ],
)
async def test_a_proxys_address_that_cannot_be_used_stops_the_run_and_is_not_shown(
    proxy: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(JudgeMisconfiguredError, match=says) as caught:
        client_of("https://judge.example/v1")
    assert SECRET not in str(caught.value)


def test_a_target_shows_no_password() -> None:
    assert SECRET not in repr(Target("https://judge.example", f"http://me:{SECRET}@proxy:3128"))


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
async def test_a_socks_proxy_that_looks_up_names_is_told_the_name(
    encrypted: bool, tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    with trusted(authority, monkeypatch):
        async with (
            socket_server(saying(whole(b"1"), whole(b"2")), tls if encrypted else None) as port,
            socket_server(socks5_proxy(port, asked, SECRET)) as proxy,
        ):
            monkeypatch.setenv("all_proxy", f"socks5h://me:{SECRET}@127.0.0.1:{proxy}")
            assert await posted_twice(f"http{'s' * encrypted}://judge.example/v1") == [1, 2]
    assert asked == [("name", "judge.example", "me")]


async def test_a_socks_proxy_that_looks_up_no_names_is_told_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    async with (
        socket_server(saying(whole(b"1"), whole(b"2"))) as port,
        socket_server(socks5_proxy(port, asked)) as proxy,
    ):
        monkeypatch.setenv("http_proxy", f"socks5://127.0.0.1:{proxy}")
        assert await posted_twice("http://10.1.2.3/v1") == [1, 2]
    assert asked == [("ipv4", "10.1.2.3")]


async def test_a_socks_proxy_that_refuses_the_password_is_unavailable_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with socket_server(socks5_proxy(1, [], "another")) as proxy:
        monkeypatch.setenv("http_proxy", f"socks5h://me:{SECRET}@127.0.0.1:{proxy}")
        with pytest.raises(UnavailableError, match="can't connect") as caught:
            await posted_twice("http://judge.example/v1")
    assert SECRET not in str(caught.value)


def test_without_its_package_a_socks_proxy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp_socks", None)
    monkeypatch.setenv("http_proxy", f"socks5://me:{SECRET}@proxy:1080")
    with pytest.raises(JudgeMisconfiguredError, match=r"pip install 'lrf\[socks\]'") as caught:
        client_of("http://judge.example/v1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://judge.example/v1", "http://for-https:1"),
        ("http://judge.example/v1", "http://for-all:2"),
        ("http://localhost:8000", None),
        ("http://127.3.2.1:8000", None),
        ("http://[::1]:8000", None),
        ("http://quiet.example", None),
    ],
)
def test_the_proxy_is_chosen_by_scheme_and_host(url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://not-this-one:1")
    monkeypatch.setenv("https_proxy", "http://for-https:1")
    monkeypatch.setenv("ALL_PROXY", "for-all:2")
    monkeypatch.setenv("NO_PROXY", "quiet.example")
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("entry", "bypassed", "not_bypassed"),
    [
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com"], ["badexample.com", "example.com.evil"]),
        (".example.com", ["example.com", "a.b.example.com"], ["badexample.com"]),
        ("*.example.com", ["a.example.com"], ["badexample.com"]),
        ("example.com:8000", ["example.com:8000"], ["example.com", "example.com:80"]),
        ("a.b, example.com c.d", ["a.b", "example.com", "c.d"], ["b"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.1.2.3", "ten.example"]),
        ("10.1.2.3", ["10.1.2.3"], ["10.1.2.30"]),
        ("10.1.2.3:8000", ["10.1.2.3:8000"], ["10.1.2.3"]),
        ("fd00::/8", ["[fd00::1]"], ["[fe00::1]", "10.1.2.3"]),
        ("[fd00::1]:8000", ["[fd00::1]:8000"], ["[fd00::1]"]),
        ("fd00:0::1", ["[fd00::1]"], ["[fd00::2]"]),
        ("bücher.example", ["xn--bcher-kva.example"], []),
        ("http://example.com", ["example.com"], []),
        ("*", ["anything.example", "10.1.2.3"], []),
        ("", [], ["example.com"]),
        (" , .", [], ["example.com"]),
    ],
)
def test_no_proxy_takes_hosts_ports_networks_and_asterisk(
    entry: str, bypassed: list[str], not_bypassed: list[str]
) -> None:
    def is_exempt(place: str) -> bool:
        host, port = host_and_port(f"http://{place}")
        return is_bypassed(host, port, entry)

    assert [place for place in bypassed if not is_exempt(place)] == []
    assert [place for place in not_bypassed if is_exempt(place)] == []


@pytest.mark.parametrize("url", ["http://a:0", "http://a:99999", "http://a:b", f"http://{'a' * 64}.example"])
def test_an_address_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the address has no host, or an invalid port"):
        Target(url)
