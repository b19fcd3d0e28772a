"""Requests over aiohttp: one session for each event loop, bounded bodies, and errors that say how far a request came.

Only modules of components import this, when they are used: aiohttp takes a tenth of a second to import.
A POST is never sent a second time here; aiohttp itself repeats idempotent requests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from lrf.http.target import Proxy, Target

_KEEPALIVE_S = 4.0  # shorter than servers' own (uvicorn: 5), so that a connection is rarely closed while it is used
_HEADER_BYTES = 65_536  # of one header, or of the status line
_COPIED_BYTES = 1_000_000  # a larger body is written in parts
_CLOSING_S = 5.0  # wait for another thread's event loop, which may be ending, to close its connections


class ConnectError(Exception):
    """No connection could be opened, so nothing was sent. The message is the system's or the proxy's."""


class CertificateError(Exception):
    """The server's certificate is not trusted. The message says why."""


class BrokenError(Exception):
    """The connection ended early, or what came over it is not HTTP."""


class TooLongError(Exception):
    """The body is longer than the limit."""


FAILURES = (ConnectError, CertificateError, BrokenError, TooLongError)


class Sending:
    """How far a request came: ``begun`` is True if any of it may have left this machine."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``body``: bytes of a reply, above which it is refused. ``error``: bytes that are read of an error's body."""

    body: int
    error: int


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's answer. ``headers`` are looked up in any case. The body of an error may be cut off."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class Transport:
    """The connections to one server, at most ``max_connections`` for each event loop.

    Raises ValueError where a SOCKS proxy is needed and the package ``aiohttp-socks`` is missing.
    """

    def __init__(self, target: Target, max_connections: int, headers: Mapping[str, str], limits: BodyLimits) -> None:
        self._target = target
        self._max_connections = max_connections
        self._limits = limits
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._options: dict[str, Any] = {"allow_redirects": False}
        if target.tls is not None:
            self._options["ssl"] = target.tls
        proxy = target.proxy
        self._failures: tuple[type[Exception], ...] = (aiohttp.ClientError, OSError)
        if proxy is not None and proxy.is_socks:
            self._failures += _socks_errors(proxy)
        elif proxy is not None:
            self._options["proxy"] = URL(proxy.url)
            if target.base_url.startswith("https:"):  # CONNECT carries the credentials, the request itself must not
                self._options["proxy_headers"] = proxy.headers
            else:
                headers = {**headers, **proxy.headers}
        self._headers = headers

    async def ask(
        self, method: str, url: str, data: bytes | None, sending: Sending, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """The server's answer, read to its end.

        Raises :class:`ConnectError`, :class:`CertificateError`, :class:`BrokenError` or :class:`TooLongError`.
        """
        try:
            response = await self._respond(method, url, data, sending, headers)
            try:
                return HttpResponse(url, response.status, response.headers, await self._body(response))
            finally:
                response.close()  # does nothing once the body was read to its end
        except self._failures as error:
            raise _translated(error, sending) from None

    async def stream(
        self, url: str, data: bytes, sending: Sending, headers: Mapping[str, str]
    ) -> AsyncGenerator[HttpResponse | bytes]:
        """The answer to a POST as it comes: first an :class:`HttpResponse`, then, unless it is an error, its parts.

        Raises as :meth:`ask`.
        """
        try:
            response = await self._respond("POST", url, data, sending, headers)
            try:
                ok = 200 <= response.status < 300
                yield HttpResponse(url, response.status, response.headers, b"" if ok else await self._body(response))
                size = 0
                async for part in response.content.iter_any():
                    size += len(part)
                    if size > self._limits.body:
                        raise TooLongError
                    yield part
            finally:
                response.close()
        except self._failures as error:
            raise _translated(error, sending) from None

    async def aclose(self) -> None:
        """Close all connections, those of other event loops too; requests in flight raise :class:`BrokenError`."""
        here = asyncio.get_running_loop()
        while self._sessions:
            loop, session = self._sessions.popitem()
            if loop is here or loop.is_closed():
                await session.close()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # the loop was closed in this moment
                    closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
                    await asyncio.wait([asyncio.wrap_future(closing)], timeout=_CLOSING_S)

    async def _respond(
        self, method: str, url: str, data: bytes | None, sending: Sending, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        session = self._sessions.get(asyncio.get_running_loop()) or await self._open_session()
        body = io.BytesIO(data) if data is not None and len(data) > _COPIED_BYTES else data
        _connecting.set(sending)
        try:
            return await session.request(method, _parsed(url), data=body, headers=headers, **self._options)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if session.closed and task is not None and not task.cancelling():  # aiohttp cancels those in its queue
                raise BrokenError("the client was closed") from None
            raise

    async def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        for ended in [other for other in self._sessions if other.is_closed()]:
            if (session := self._sessions.pop(ended, None)) is not None:
                await session.close()
        if loop not in self._sessions:  # another task may have opened it meanwhile
            self._sessions[loop] = aiohttp.ClientSession(
                connector=self._connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None),  # deadlines are the caller's
                max_line_size=_HEADER_BYTES,
                max_field_size=_HEADER_BYTES,
            )
        return self._sessions[loop]

    def _connector(self) -> aiohttp.TCPConnector:
        options: dict[str, Any] = {"limit": self._max_connections, "keepalive_timeout": _KEEPALIVE_S}
        proxy = self._target.proxy
        if proxy is None or not proxy.is_socks:
            return _CleanConnections(**options)
        from aiohttp_socks import ProxyConnector, ProxyType

        class SocksConnector(_CleanConnections, ProxyConnector):
            pass

        return SocksConnector(
            proxy.host,
            proxy.port,
            ProxyType.SOCKS5 if proxy.scheme.startswith("socks5") else ProxyType.SOCKS4,
            proxy.user,
            proxy.password or None,
            rdns=proxy.scheme in ("socks4a", "socks5h"),
            **options,
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        ok = 200 <= response.status < 300
        if ok and (response.content_length or 0) > self._limits.body:
            raise TooLongError
        parts: list[bytes] = []
        size = 0
        try:
            while not response.content.at_eof():  # an iterator would ask once more
                part = await response.content.readany()
                size += len(part)
                parts.append(part)
                if ok and size > self._limits.body:
                    raise TooLongError
                if not ok and size >= self._limits.error:
                    break
        except (aiohttp.ClientError, OSError):
            if ok:
                raise  # of an error, the status counts even if its body is damaged
        return b"".join(parts) if ok else b"".join(parts)[: self._limits.error]


_connecting: ContextVar[Sending] = ContextVar("connecting")
"""The request for which this task wants a connection."""


class _CleanConnections(aiohttp.TCPConnector):
    """Notes that a request has begun when it has its connection: aiohttp's tracing costs a tenth of a call's CPU.

    Never reuses a connection on which bytes came while it was idle: they would be read as the next reply.
    """

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        while True:
            connection = await super().connect(*arguments, **options)
            if connection.protocol is None or not connection.protocol.should_close:
                _connecting.get().begun = True
                return connection
            connection.close()


def _socks_errors(proxy: Proxy) -> tuple[type[Exception], ...]:
    try:
        from aiohttp_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
    except ImportError:
        raise ValueError(f"the proxy {proxy.url} needs the package aiohttp-socks: pip install 'lrf[socks]'") from None
    return ProxyConnectionError, ProxyError, ProxyTimeoutError


@lru_cache(maxsize=256)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


def _translated(error: Exception, sending: Sending) -> Exception:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return CertificateError(str(error.certificate_error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(str(error))
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(f"the proxy answered with status {error.status}: {error.message}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectError(str(error.os_error))
    if not sending.begun:
        return ConnectError(str(error) or type(error).__name__)
    if isinstance(error, aiohttp.ClientResponseError):
        return BrokenError(f"not HTTP: {error.message}")
    if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):  # what came, parsed
        return BrokenError("the server closed the connection within the headers")
    return BrokenError(str(error) or type(error).__name__)
