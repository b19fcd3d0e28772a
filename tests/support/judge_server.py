"""A small OpenAI-compatible server on this machine, for tests: real HTTP, deterministic replies, faults on demand.

Started by the fixture ``judge_server``. Its replies depend on the prompt and the temperature alone. It keeps books:
what was asked how often, what is in flight, and what was answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

LEVELS = ("Fully supported", "Partially supported", "No support")
SENTENCE = re.compile(r"[^.!?。！？\n\[\]<>]{12,300}[.!?。！？]")

Wish = Callable[[str], bool]


@dataclass
class Fault:
    """What goes wrong, how often (None: always), and with which prompts (None: all)."""

    kind: str
    times: int | None = 1
    when: Wish | None = None


@dataclass
class Books:
    """``asked`` counts the chat requests by what was asked; ``served`` those that were answered in full."""

    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def calls(self) -> int:
        return self.asked.total()

    @property
    def repeated(self) -> int:
        """Requests beyond the first of each kind."""
        return self.asked.total() - len(self.asked)


class JudgeServer:
    """The server and its books, in a thread of its own, so that child processes can be served while a test waits.

    ``delay_s``: how long a reply takes. ``reply``: the text of a reply by its prompt and temperature.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.reply: Callable[[str, float], str] = default_reply
        self.faults: list[Fault] = []
        self.books = Books()
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._let_go = asyncio.Event()
        self._lock = threading.Lock()
        self._served = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def fault(self, kind: str, times: int | None = 1, when: Wish | None = None) -> None:
        """``kind``: "429", "503", "400", "401", "404", "hang", "html", "garbage", "cut", "empty" or "break"."""
        self.faults.append(Fault(kind, times, when))

    def wait_for_calls(self, number: int, timeout_s: float = 60.0) -> bool:
        """Wait until so many chat requests have been answered."""
        with self._served:
            return self._served.wait_for(lambda: self.books.served.total() >= number, timeout_s)

    def let_go(self) -> None:
        """Answer the calls that hang, and let no other hang."""
        self.faults = [fault for fault in self.faults if fault.kind != "hang"]
        self._loop.call_soon_threadsafe(self._let_go.set)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        return app

    async def _open(self) -> None:
        self._runner = web.AppRunner(self.app(), shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _close(self) -> None:
        await self._runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    def _fault_for(self, prompt: str) -> str | None:
        for fault in self.faults:
            if fault.times != 0 and (fault.when is None or fault.when(prompt)):
                if fault.times is not None:
                    fault.times -= 1
                return fault.kind
        return None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = "\n".join(m["content"] for m in body["messages"])
        temperature = body.get("temperature", 0.0)
        key = hashlib.sha256(json.dumps([prompt, temperature, body["max_tokens"]]).encode()).hexdigest()
        with self._lock:
            fault = self._fault_for(prompt)
        refused = refusal(fault)
        if refused is not None:
            return refused
        books = self.books
        with self._lock:
            books.asked[key] += 1
            books.prompts.append(prompt)
            books.headers.append(dict(request.headers))
            books.in_flight += 1
            books.most_in_flight = max(books.most_in_flight, books.in_flight)
        try:
            if fault == "hang":
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._let_go.wait(), 3600)
            if fault == "break":
                assert request.transport is not None
                request.transport.close()
            text, finish = self.reply(prompt, temperature), "stop"
            if fault == "garbage":
                text = "I'm sorry, I can't rate this."
            if fault == "cut":
                text, finish = text[: len(text) // 2], "length"
            if fault == "empty":
                text = ""
            if self.delay_s:
                await asyncio.sleep(self.delay_s * (0.5 + random.Random(key).random()))
        finally:
            with self._served:
                books.in_flight -= 1
                books.served[key] += 1
                self._served.notify_all()
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": max(1, len(text) // 4)}
        return web.json_response({"model": body["model"], "choices": [choice], "usage": usage})

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        with self._lock:
            self.books.embedded.update(body["input"])
        data = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
        return web.json_response({"data": data})


def refusal(fault: str | None) -> web.Response | None:
    """The answer to a request that isn't served at all."""
    if fault == "429":
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.05"})
    if fault == "html":
        return web.Response(text="<html><body>Bad gateway</body></html>", content_type="text/html")
    if fault in ("400", "401", "404", "503"):
        return web.json_response({"error": {"message": "no"}}, status=int(fault))
    return None


def default_reply(prompt: str, temperature: float) -> str:
    """Notes, statements, a verdict and a rating at once: each kind of request finds its own kind of mark."""
    rng = random.Random(hashlib.sha256(f"{prompt}\0{temperature}".encode()).digest())
    sentences = list(dict.fromkeys(s.strip() for s in SENTENCE.findall(prompt[-600:])))[-3:]
    statements = "\n".join(f"<statement>{s}</statement>" for s in sentences or ["The answer says something."])
    return f"Note.\n{statements}\nVerdict: [[{rng.choice(LEVELS)}]]\nRating: [[{rng.randint(0, 10)}]]"


def vector(text: str) -> list[float]:
    """A bag of hashed words."""
    numbers = [0.0] * 32
    for word in re.findall(r"\w+", text.lower()):
        numbers[hashlib.sha256(word.encode()).digest()[0] % 32] += 1.0
    return numbers if any(numbers) else [1.0] + [0.0] * 31
