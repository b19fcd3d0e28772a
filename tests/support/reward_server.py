"""``lrf serve`` in a process of its own, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

import lrf
from lrf_server.app import ServerOptions, serving
from lrf_server.running import Server, configured


class Client:
    """Asks the server at this address."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and body of a POST of JSON."""
        async with aiohttp.ClientSession() as http, http.post(self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a GET."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()


class RewardServer(Client):
    """The server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        super().__init__(url)
        self.process = process

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class ServerHere(Client):
    """The server on this event loop."""

    def __init__(self, server: Server, url: str) -> None:
        super().__init__(url)
        self._server = server

    def begin_to_stop(self) -> None:
        """What SIGTERM does."""
        self._server.should_exit = True

    async def connect(self) -> RawConnection:
        """A bare connection, for clients that don't keep to HTTP's rules."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return RawConnection(*await asyncio.open_connection(host, int(port)))


class RawConnection:
    """A connection that sends whatever bytes it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, path: str, body: Any) -> None:
        """Send a whole request, and wait for nothing."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        await self.send(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)

    async def answer(self) -> tuple[int, Any]:
        """Status and body of the next response."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), json.loads(await self.reader.readexactly(length))

    async def at_end(self) -> bool:
        """Whether the server has closed the connection."""
        return await self.reader.read(1) == b""

    def close(self) -> None:
        self.writer.close()


@contextmanager
def serve_apart(pipeline: Path, runs: Path, *options: str, **environ: str) -> Iterator[RewardServer]:
    """A server of this pipeline on a free port."""
    command = [sys.executable, "-m", "lrf", "serve", str(pipeline), "--runs", str(runs), "--port", "0", *options]
    process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the server didn't start"
        yield RewardServer(process, url)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@asynccontextmanager
async def serve_here(pipeline: Path, runs: Path, **options: Any) -> AsyncIterator[ServerHere]:
    """The same server on this event loop, over HTTP all the same."""
    model = await asyncio.to_thread(lrf.RewardModel.from_pipeline, pipeline, runs=runs, share_s=60.0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        app, scorings = serving(model, ServerOptions(**options))
        server = Server(configured(app))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield ServerHere(server, f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            await running
            await scorings.finish()
            await asyncio.to_thread(model.close)
