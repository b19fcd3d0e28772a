"""HTTP/1.1 as calls to a server need it: one request at a time on each of a few connections that are kept open.

asyncio opens the connections and encrypts them, httptools (llhttp, the parser of Node.js) reads what comes. Nothing is
redirected or followed; a request is bytes, and a reply a status, headers and a body of bounded size. A request is sent
once more only where the server had closed an idle connection in the meantime, as it may.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httptools

from lrf.http.target import Target, host_and_port

READ = 65_536
"""Bytes that are taken from a connection at once."""

_HEAD = 262_144  # bytes of a reply's headers at most


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


class Connections:
    """The connections of one event loop to one place, at most ``most``. One idle for ``keep_s`` isn't used again."""

    def __init__(self, place: Target, most: int, *, keep_s: float) -> None:
        self._place = place
        self._keep_s = keep_s
        self._turns = asyncio.Semaphore(most)
        self._buffer = memoryview(bytearray(READ))
        self._idle: list[_Connection] = []  # the one used last is last
        self._open: set[_Connection] = set()
        self._closed = False

    async def ask(self, head: bytes, body: bytes | None, *, most: int, most_of_error: int) -> Answer:
        """The server's answer to a request; ``head`` is of :meth:`Place.head`.

        A body of more than ``most`` bytes raises :class:`TooLong`; that of another status than 200 is cut off after
        ``most_of_error``. Also raises :class:`CannotConnect`, :class:`Broken`, and ``ssl.SSLCertVerificationError``
        for a certificate that isn't trusted.
        """
        request = head + b"\r\n" if body is None else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        async with self._turns:
            answer = await self._answer(request, most, most_of_error)
        if answer.headers.get("content-encoding", "").lower() not in ("gzip", "x-gzip", "deflate"):
            return answer
        body = _unpacked(answer.body, most) if answer.status == 200 else _begun(answer.body, most_of_error)
        return Answer(answer.status, answer.headers, body)

    async def _answer(self, request: bytes, most: int, most_of_error: int) -> Answer:
        if kept := self._kept():
            try:
                return await self._over(kept, request, most, most_of_error)
            except Broken:
                if self._closed or not kept.untouched:
                    raise
        return await self._over(await self._connect(), request, most, most_of_error)

    async def _over(self, connection: _Connection, request: bytes, most: int, most_of_error: int) -> Answer:
        try:
            if self._closed:
                raise Broken("the client was closed")
            answer = await connection.ask(request, most, most_of_error)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable and not self._closed:
            connection.idle_since = connection.loop.time()
            self._idle.append(connection)
        else:
            connection.abort()
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
                    self._open.discard(connection)  # asyncio doesn't tell of an end amid the handshake
                    raise
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            raise CannotConnect(str(error)) from None
        return connection

    async def _through_proxy(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        """Have the proxy connect to the server, and speak with that from now on."""
        status = await connection.tunnel(self._place.tunnel())
        if not 200 <= status < 300:
            raise CannotConnect(f"the proxy answered with status {status}")
        await connection.encrypt(tls, host_and_port(self._place.base_url)[0])

    def _made(self) -> _Connection:
        return _Connection(self._buffer, self._open)

    async def aclose(self) -> None:
        """Close all connections; whoever waits for an answer gets :class:`Broken`."""
        self._closed = True
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        for _ in range(3):  # asyncio says good-bye in the next turns of its loop, to an encrypted one a turn later
            await asyncio.sleep(0)


def _parser(of: _Connection) -> httptools.HttpResponseParser:
    """A parser that takes what most clients take: line feeds alone, folded headers, spaces behind a chunk's size."""
    parser = httptools.HttpResponseParser(of)
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser


class _Connection(asyncio.BufferedProtocol):
    """One connection. Its buffer may be others', too: nothing stays in it beyond a call of :meth:`buffer_updated`."""

    def __init__(self, buffer: memoryview, open_: set[_Connection]) -> None:
        self.loop = asyncio.get_running_loop()
        self.reusable = self._to_end = False
        self.idle_since = 0.0
        self._buffer = buffer
        self._open = open_
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Answer] | None = None
        self._tunnel: asyncio.Future[int] | None = None
        self._parser = _parser(self)

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
        self._parser = _parser(self)
        transport = await self.loop.start_tls(self._transport, self, tls, server_hostname=host)
        if transport is None:  # it was aborted amid the handshake
            raise Broken("the connection was closed")
        self._transport = transport

    def abort(self) -> None:
        self._transport.abort()

    @property
    def closed(self) -> bool:
        """Whether it has ended; asyncio tells of that some turns of its loop later."""
        return self._transport.is_closing()

    @property
    def untouched(self) -> bool:
        """Whether nothing has come since it was last asked."""
        return not (self._status or self._received)

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
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._failed(Broken(f"no HTTP: {error}"))
        if self._received > _HEAD:
            self._failed(Broken("its headers never end"))

    def eof_received(self) -> None:
        if self._to_end:
            self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        del self._parser  # which holds this connection's methods: only a collector would find the two
        self._failed(Broken(str(exc) if exc else "the server closed it"))

    # --- what httptools calls --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._status >= 200:  # more than was asked for
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:  # behind the body, or of an answer to nothing
            return
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
        self._to_end = length is None and self._headers.get("transfer-encoding", "identity").lower() == "identity"
        if status == 200 and length is not None and int(length) > self._most:
            self._failed(TooLong())

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        self._received = 0
        self._parts.append(part)
        if self._status == 200 and self._size > self._most:
            self._failed(TooLong())
        elif self._status != 200 and self._size >= self._most_of_error:
            self._parts = [b"".join(self._parts)[: self._most_of_error]]
            self._ended()

    def on_message_complete(self) -> None:
        if self._status and self._waited_for:
            self.reusable = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
            self._ended()


def _unpacked(body: bytes, most: int) -> bytes:
    """The body of a server that packs what was to come as it is."""
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = unpacking.decompress(body, most + 1)
    except zlib.error as error:
        raise Broken(f"its body can't be unpacked: {error}") from None
    if len(plain) > most:
        raise TooLong
    if not unpacking.eof or unpacking.unused_data.strip(b"\0"):
        raise Broken("its packed body ends midway, or goes on after its end")
    return plain


def _begun(body: bytes, most: int) -> bytes:
    """What can be unpacked of an error's body, which may be cut off: its status is what counts."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, most)
    except zlib.error:
        return b""
