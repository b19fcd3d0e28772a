"""A judge and clients over HTTP that take little CPU, each in a process of its own, so that a server can be measured.

Both speak only the part of HTTP/1.1 that these benchmarks need. A judge's reply says how long it took, so a client that
gets the reply's text back can tell the judge's time from the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import resource
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

TOOK = re.compile(rb"It took (\d+\.\d+) s")


class Asked(NamedTuple):
    """What clients saw: seconds in all, their CPU seconds, and for each request its seconds, the judge's among them."""

    seconds: float
    cpu_s: float
    took: Sequence[tuple[float, float]]
    failed: Sequence[str]


class LeanJudge:
    """A judge in another process: rates every prompt after ``delay_s`` on average (half to one and a half of it)."""

    def __init__(self, delay_s: float) -> None:
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_judge, args=(there, delay_s), daemon=True)
        self._process.start()
        self.base_url = f"http://127.0.0.1:{self._pipe.recv()}/v1"

    def state(self) -> dict[str, Any]:
        """``calls`` so far, ``cpu_s`` of the process, and the ``body`` of the last request."""
        self._pipe.send("state")
        state: dict[str, Any] = self._pipe.recv()
        return state

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join(10)


def ask(url: str, bodies: Sequence[bytes], connections: int, *, each_s: float = 0.0) -> Asked:
    """POST all bodies over so many connections from another process, as fast as the answers come.

    A connection that the server ends is not opened again; when all have ended, the rest is not sent.

    ``each_s``: seconds from one request of a connection to its next, on average; 0: at once.
    """
    context = get_context("spawn")
    pipe, there = context.Pipe()
    process = context.Process(target=_client, args=(there, url, connections, each_s), daemon=True)
    process.start()
    there.close()  # so that a process that fails ends the waiting here
    pipe.send(bodies)
    asked: Asked = pipe.recv()
    process.join(10)
    return asked


class _Messages(asyncio.Protocol):
    """Cuts what comes into messages of a head and a body of the length that the head says."""

    def __init__(self, got: Callable[[_Messages, bytes, bytes], None]) -> None:
        self._got = got
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            self._got(self, head, body)

    def connection_lost(self, error: Exception | None) -> None:
        self._got(self, b"", b"")


# --- the judge -------------------------------------------------------------------------------------------------------


def _judge(pipe: Connection, delay_s: float) -> None:
    asyncio.run(_serve(pipe, delay_s))


async def _serve(pipe: Connection, delay_s: float) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(0)
    calls, last = 0, b""

    def got(connection: _Messages, head: bytes, body: bytes) -> None:
        nonlocal calls, last
        if head:
            calls, last = calls + 1, body
            loop.call_later(delay_s * (0.5 + rng.random()), reply, connection, time.monotonic())

    def reply(connection: _Messages, began: float) -> None:
        text = f"Analysis: plain. It took {time.monotonic() - began:.5f} s.\nRating: [[{rng.randint(0, 10)}]]"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(last) // 4, "completion_tokens": 16}
        body = json.dumps({"model": "sim", "choices": [choice], "usage": usage}).encode()
        connection.transport.write(_head(b"HTTP/1.1 200 OK", body) + body)

    server = await loop.create_server(lambda: _Messages(got), "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    while await asyncio.to_thread(pipe.recv) == "state":
        pipe.send({"calls": calls, "cpu_s": _cpu_s(), "body": last})


def _head(first: bytes, body: bytes) -> bytes:
    return b"%b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (first, len(body))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the clients -----------------------------------------------------------------------------------------------------


def _client(pipe: Connection, url: str, connections: int, each_s: float) -> None:
    asyncio.run(_Clients(url, pipe.recv(), each_s).ask(pipe, connections))


class _Clients:
    def __init__(self, url: str, bodies: Sequence[bytes], each_s: float) -> None:
        self._host, _, path = url.removeprefix("http://").partition("/")
        self._first = f"POST /{path} HTTP/1.1\r\nhost: {self._host}".encode()
        self._each_s, self._number, self._waiting = each_s, len(bodies), iter(bodies)
        self._sent: dict[_Messages, float] = {}
        self._took: list[tuple[float, float]] = []
        self._failed: list[str] = []
        self._random = random.Random(0)
        self._done = asyncio.Event()

    async def ask(self, pipe: Connection, connections: int) -> None:
        loop = asyncio.get_running_loop()
        name, _, port = self._host.partition(":")
        made = [
            (await loop.create_connection(lambda: _Messages(self._got), name, int(port)))[1] for _ in range(connections)
        ]
        began, used = time.monotonic(), _cpu_s()
        for connection in made:
            loop.call_later(self._each_s * self._random.random(), self._send, connection)
        await self._done.wait()
        pipe.send(Asked(time.monotonic() - began, _cpu_s() - used, self._took, self._failed))

    def _send(self, connection: _Messages) -> None:
        body = next(self._waiting, None)
        if body is not None:
            self._sent[connection] = time.monotonic()
            connection.transport.write(_head(self._first, body) + body)

    def _got(self, connection: _Messages, head: bytes, body: bytes) -> None:
        if connection not in self._sent:  # it ended unasked
            return
        seconds = time.monotonic() - self._sent.pop(connection)
        found = TOOK.search(body)
        if b" 200 " not in head.partition(b"\r\n")[0] or found is None:
            self._failed.append((head[:100] + b" " + body[:300]).decode("utf-8", "replace"))
        self._took.append((seconds, float(found[1]) if found else 0.0))
        ended = b"connection: close" in head.lower()
        if len(self._took) == self._number or (ended and not self._sent):
            self._done.set()
        if ended or self._done.is_set():
            return
        pause_s = max(0.0, self._each_s * 2 * self._random.random() - seconds)
        if pause_s:
            asyncio.get_running_loop().call_later(pause_s, self._send, connection)
        else:
            self._send(connection)


def percentile(numbers: Sequence[float], share: float) -> float:
    """The number below which this share of them is."""
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * share))]


def cpu_s_of(process: int) -> float:
    """The CPU seconds of another process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
