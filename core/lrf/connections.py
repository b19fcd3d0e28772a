"""HTTP/1.1 as calls to a server need it: one request at a time on each of a few connections that are kept open.

asyncio opens the connections and encrypts them, httptools (llhttp, the parser of Node.js) reads what comes. Nothing is
retried, redirected or followed; a request is bytes, and a reply a status, headers and a body of bounded size.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import quote, unquote, urlsplit

import httptools

READ = 65_536
"""Bytes that are taken from a connection at once."""

_HEAD = 262_144  # bytes of a reply's headers at most
_IN_PATHS = "/%:@!$&'()*+,;=~-._"


class CannotConnect(Exception):
    """No connection could be opened; the message is the system's."""


class Broken(Exception):
    """A connection ended, or what came over it is no reply."""


class TooLong(Exception):
    """The body is longer than the caller wants."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have names in lower case; of one that comes twice the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections go. ``proxy`` is an address like ``http://user:password@proxy:3128``, or None.

    ``tls`` is what an encrypted server must be trusted by: read from the disk once, before anything is under way.
    Raises ValueError for an address that can't be asked.
    """

    base_url: str
    proxy: str | None = None
    tls: ssl.SSLContext | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for url in (self.base_url, self.proxy):
            if url is not None:
                host_and_port(url)
        if self.proxy is not None and urlsplit(self.proxy).scheme != "http":
            raise ValueError("only proxies whose address begins with http:// can be used")
        if urlsplit(self.base_url).scheme == "https":
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(["http/1.1"])
            object.__setattr__(self, "tls", tls)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of a request, up to and without ``Content-Length``. ``path`` follows the base URL's own.

        Raises ValueError for a header that can't be sent.
        """
        parts = urlsplit(self.base_url)
        target = quote(parts.path + path, safe=_IN_PATHS)
        headers = {"Host": _authority(self.base_url), **headers}
        if self.proxy is not None and self.tls is None:  # the proxy reads where the request is to go
            target = f"{parts.scheme}://{_authority(self.base_url)}{target}"
            headers |= self.of_proxy()
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise ValueError("a header holds characters that can't be sent")
        return "\r\n".join(lines).encode() + b"\r\n"

    def of_proxy(self) -> dict[str, str]:
        """The header that tells the proxy who asks, where its address does."""
        parts = urlsplit(self.proxy or "")
        if parts.username is None:
            return {}
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": f"Basic {b64encode(who.encode()).decode()}"}


def host_and_port(url: str) -> tuple[str, int]:
    """The host, as it is looked up, and the port. Raises ValueError where there is none, or none that can be."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()  # UnicodeError is a ValueError
    if not host or parts.port == 0:
        raise ValueError("no host or no port")
    return host, parts.port or (443 if parts.scheme == "https" else 80)


def _authority(url: str) -> str:
    host, port = host_and_port(url)
    host = f"[{host}]" if ":" in host else host
    return host if urlsplit(url).port is None else f"{host}:{port}"


class Connections:
    """The connections of one event loop to one place, at most ``most``. One idle for ``keep_s`` isn't used again."""

    def __init__(self, place: Place, most: int, *, keep_s: float) -> None:
        self._place = place
        self._keep_s = keep_s
        self._turns = asyncio.Semaphore(most)
        self._buffer = memoryview(bytearray(READ))
        self._idle: list[_Connection] = []  # the one used last is last
        self._open: set[_Connection] = set()

    async def ask(self, head: bytes, body: bytes | None, *, most: int, most_of_error: int) -> Answer:
        """The server's answer to a request; ``head`` is of :meth:`Place.head`.

        A body of more than ``most`` bytes raises :class:`TooLong`; that of another status than 200 is cut off after
        ``most_of_error``. Also raises :class:`CannotConnect`, :class:`Broken`, and ``ssl.SSLCertVerificationError``
        for a certificate that isn't trusted.
        """
        request = head + b"\r\n" if body is None else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        async with self._turns:
            connection = self._kept() or await self._connect()
            try:
                answer = await connection.ask(request, most, most_of_error)
            except BaseException:
                connection.abort()
                raise
            if connection.reusable:
                connection.idle_since = connection.loop.time()
                self._idle.append(connection)
            else:
                connection.abort()
        if (encoding := answer.headers.get("content-encoding", "identity").lower()) != "identity":
            return Answer(answer.status, answer.headers, _unpacked(answer.body, encoding, most))
        return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.loop.time() - connection.idle_since < self._keep_s:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        place, loop = self._place, asyncio.get_running_loop()
        host, port = host_and_port(place.base_url)
        try:
            if place.proxy is None:
                _, connection = await loop.create_connection(
                    self._made, host, port, ssl=place.tls, happy_eyeballs_delay=0.25
                )
                return connection
            _, connection = await loop.create_connection(self._made, *host_and_port(place.proxy))
            if place.tls is not None:
                try:
                    await self._through_proxy(connection, place.tls)
                except BaseException:
                    connection.abort()
                    raise
        except ssl.SSLCertVerificationError:
            raise
        except OSError as e:
            raise CannotConnect(str(e)) from None
        return connection

    async def _through_proxy(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        """Have the proxy connect to the server, and speak with that from now on."""
        host, port = host_and_port(self._place.base_url)
        to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = {"Host": to, **self._place.of_proxy()}
        lines = [f"CONNECT {to} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        status = await connection.tunnel("\r\n".join(lines).encode() + b"\r\n\r\n")
        if not 200 <= status < 300:
            raise CannotConnect(f"the proxy answered with status {status}")
        await connection.encrypt(tls, host)

    def _made(self) -> _Connection:
        return _Connection(self._buffer, self._open)

    async def aclose(self) -> None:
        """Close all connections; whoever waits for an answer gets :class:`Broken`."""
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        for _ in range(3):  # asyncio says good-bye in the next turns of its loop, to an encrypted one a turn later
            await asyncio.sleep(0)


class _Connection(asyncio.BufferedProtocol):
    """One connection. Its buffer may be others', too: nothing stays in it beyond a call of :meth:`buffer_updated`."""

    def __init__(self, buffer: memoryview, open_: set[_Connection]) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.reusable = False
        self.idle_since = 0.0
        self._buffer = buffer
        self._open = open_
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Answer] | None = None
        self._tunnel: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, request: bytes, most: int, most_of_error: int) -> Answer:
        self._most, self._most_of_error = most, most_of_error
        self._begin()
        if self.closed:
            raise Broken("the server closed it")
        self._answer = self.loop.create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None  # else an error, whose traceback holds this frame, would hold itself

    async def tunnel(self, request: bytes) -> int:
        """The status of a proxy's answer to CONNECT."""
        self._begin()
        self._tunnel = self.loop.create_future()
        self._transport.write(request)
        try:
            return await self._tunnel
        finally:
            self._tunnel = None

    async def encrypt(self, tls: ssl.SSLContext, host: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        transport = await self.loop.start_tls(self._transport, self, tls, server_hostname=host)
        assert transport is not None
        self._transport = transport

    def abort(self) -> None:
        self._transport.abort()

    def _begin(self) -> None:
        self._status = self._size = self._received = 0
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._to_end = self.reusable = False

    def _ended(self) -> None:
        """The answer is there."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._status, self._headers, b"".join(self._parts)))
            self._parts = []

    def _failed(self, error: Exception) -> None:
        self.reusable = False
        for waiting in (self._answer, self._tunnel):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    @property
    def _waited_for(self) -> bool:
        return any(f is not None and not f.done() for f in (self._answer, self._tunnel))

    # --- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._waited_for:  # nobody asked
            self.reusable = False
            self.abort()
            return
        self._received += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self._failed(Broken(f"no HTTP: {e}"))
        if not self._status and self._received > _HEAD:
            self._failed(Broken("the headers never end"))

    def eof_received(self) -> None:
        if self._to_end:
            self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._open.discard(self)
        del self._parser  # which holds this connection's methods: only a collector would find the two
        self._failed(Broken(str(exc) if exc else "the server closed it"))

    # --- what httptools calls --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._status >= 200:  # more than was asked for
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._tunnel is not None:
            if status >= 200 and not self._tunnel.done():
                self._tunnel.set_result(status)
            return
        if self._status:
            return
        if status < 200:  # a word in between
            self._headers.clear()
            return
        self._status = status
        length = self._headers.get("content-length")
        self._to_end = length is None and "transfer-encoding" not in self._headers
        if status == 200 and length is not None and int(length) > self._most:
            self._failed(TooLong())

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        self._parts.append(part)
        if self._status == 200 and self._size > self._most:
            self._failed(TooLong())
        elif self._status != 200 and self._size >= self._most_of_error:
            self._parts = [b"".join(self._parts)[: self._most_of_error]]
            self._ended()

    def on_message_complete(self) -> None:
        if self._status and self._waited_for:
            self.reusable = self._parser.should_keep_alive()
            self._ended()


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body of a server that packs what was to come as it is."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Broken(f"its body is packed as {encoding[:40]}, which nobody asked for")
    try:
        plain = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, most + 1)
    except zlib.error as e:
        raise Broken(f"its body can't be unpacked: {e}") from None
    if len(plain) > most:
        raise TooLong
    return plain
