"""Servers that speak byte by byte on sockets of this machine, for what no well-behaved server does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CLOSE = b"<close>"
"""At the end of an answer: the connection is closed after it."""


@asynccontextmanager
async def socket_server(speak: Speak, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on which ``speak`` serves each connection."""
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
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(*answers: bytes, asked: list[bytes] | None = None) -> Speak:
    """Gives these answers, one a request, and notes the requests in ``asked``."""
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
    """The next request with its body; nothing at the connection's end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")


def whole(body: bytes = b'"hello"', status: str = "200 OK", *headers: str) -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def http_proxy(to: int, asked: list[bytes], answer: bytes = b"HTTP/1.1 200 Connected\r\nX-Proxy: 1\r\n\r\n") -> Speak:
    """A proxy for CONNECT that takes every host for this machine's port ``to``."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await one_request(reader))
        writer.write(answer)
        await writer.drain()
        await _tunnel(reader, writer, to)

    return speak


def socks5_proxy(to: int, asked: list[tuple[str, ...]], password: str = "") -> Speak:
    """A SOCKS5 proxy (RFC 1928, 1929) that takes every host for this machine's port ``to``.

    ``asked`` gets the kind of address ("name", "ipv4"), the address, and the user's name where one is needed.
    """

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\x05\x02" if password else b"\x05\x00")
        user = ()
        if password:
            await reader.readexactly(1)
            name, given = [(await _counted(reader)).decode() for _ in range(2)]
            user = (name,)
            writer.write(b"\x01\x00" if given == password else b"\x01\x01")
            if given != password:
                return
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            asked.append(("name", (await _counted(reader)).decode(), *user))
        else:
            asked.append(("ipv4", ".".join(str(part) for part in await reader.readexactly(4)), *user))
        await reader.readexactly(2)
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        await _tunnel(reader, writer, to)

    return speak


async def _counted(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int) -> None:
    there, here = await asyncio.open_connection("127.0.0.1", to)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(65_536):
            sink.write(part)
            await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, here), pump(there, writer))
