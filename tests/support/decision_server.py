"""A decision server on this machine, for tests and benchmarks: both wire formats, deterministic, faults on demand.

Probabilities depend on the text, the question and the option alone. It counts tokens (o200k_base, of the text and of
the questions as JSON), and how many of them are the beginning of a request that it had finished before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import quicktok
from aiohttp import web

BLOCK = 64


@dataclass
class Books:
    requests: int = 0
    questions: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    busy_s: float = 0.0
    first_s: float = math.inf
    last_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[Any] = field(default_factory=list)


class DecisionServer:
    """The server, in a thread of its own.

    Attributes
    ----------
    most: questions in a request; more are refused with 422.
    window: tokens of a request; more are refused with 413.
    counts: whether tokens are counted.
    fault: what is wrong with the nth request (from 0): "refusal", "missing", "truncated", "429", "422", "503" or None.
    question_fault: what is wrong with a question ("refusal", "missing"), by text and name, whenever it is asked.
    opinion: the weight of an option, by text, question and option's words.
    """

    def __init__(self, *, most: int = 400, window: int = 32_000, delay_s: float = 0.0) -> None:
        self.most, self.window, self.delay_s = most, window, delay_s
        self.counts = True
        self.fault: Callable[[int], str | None] = lambda number: None
        self.question_fault: Callable[[str, str], str | None] = lambda text, name: None
        self.opinion: Callable[[str, str, str], float] = by_hash
        self.books = Books()
        self.base_url = ""
        self._known: set[int] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> DecisionServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/decisions", self._decisions)
        app.router.add_post("/v1/systemone", self._systemone)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    # --- the two formats -------------------------------------------------------------------------------------------

    async def _decisions(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        asked = body["questions"]
        names = {q["name"]: q for q in asked}

        def answer(name: str) -> dict[str, Any]:
            q = names[name]
            if q["type"] == "predicate":
                yes, _ = self._shares(body["input"], q["instructions"], ["yes", "no"])
                return {"type": "predicate", "name": name, "probability": yes}
            key = "levels" if q["type"] == "score" else "choices"
            words = [one["label"] if key == "levels" else one.get("description", one["value"]) for one in q[key]]
            shares = self._shares(body["input"], q["instructions"], words)
            if key == "levels":
                listed = [{"label": w, "value": n, "probability": p} for n, (w, p) in enumerate(zip(words, shares))]
                return {"type": "score", "name": name, "score": 0.0, "confidence": 0.5, "probabilities": listed}
            listed = [{"value": one["value"], "probability": p} for one, p in zip(q[key], shares)]
            return {"type": "choice", "name": name, "choice": "", "confidence": 0.5, "probabilities": listed}

        def reply(answers: Mapping[str, Any], usage: Mapping[str, Any], dropped: int) -> Any:
            details = {"cached_tokens": usage["cached_tokens"], "cache_write_tokens": 0}
            tokens = {"input_tokens": usage["input_tokens"], "input_tokens_details": details, "output_tokens": 0}
            tokens["output_tokens_details"] = {"reasoning_tokens": 0}
            return {"model": body["model"], "answers": list(answers.values()), "usage": tokens}

        return await self._served(body["input"], asked, list(names), answer, reply)

    async def _systemone(self, request: web.Request) -> web.Response:
        body = await self._read(request)
        asked = body["questions"]

        def answer(name: str) -> dict[str, Any]:
            q = asked[name]
            if q["type"] == "noul":
                return {"type": "noul", "noul": self._shares(body["state"], q["instructions"], ["yes", "no"])[0]}
            criteria = q["criteria"]
            words = criteria if isinstance(criteria, list) else [d or option for option, d in criteria.items()]
            shares = self._shares(body["state"], q["instructions"], words)
            names = [str(n) for n in range(len(words))] if isinstance(criteria, list) else list(criteria)
            return {"type": q["type"], "confidence": 0.5, "probabilities": dict(zip(names, shares, strict=True))}

        def reply(answers: Mapping[str, Any], usage: Mapping[str, Any], dropped: int) -> Any:
            details = {"cached_tokens": usage["cached_tokens"]}
            tokens = {"input_tokens": usage["input_tokens"], "output_tokens": 0, "prompt_tokens_details": details}
            cut = {"truncated": True, "state_tokens_dropped": dropped} if dropped else {}
            return {"model": body["model"], "answers": answers, "usage": {**tokens, **cut}}

        return await self._served(body["state"], asked, list(asked), answer, reply)

    async def _read(self, request: web.Request) -> Any:
        body = await request.json()
        self.books.bodies.append(body)
        return body

    def _shares(self, text: str, question: str, words: Sequence[str]) -> list[float]:
        weights = [self.opinion(text, question, word) for word in words]
        total = math.fsum(weights)
        return [round(weight / total, 4) for weight in weights]

    async def _served(
        self, text: str, asked: Any, names: list[str], answer: Callable[[str], Any], reply: Callable[..., Any]
    ) -> web.Response:
        tokens = await asyncio.to_thread(self._tokens, text, asked) if self.counts else []
        with self._lock:
            number, fault = self.books.requests, self.fault(self.books.requests)
            self.books.requests += 1
        if fault in ("429", "422", "503"):
            headers = {"Retry-After": "0.02"}
            return web.json_response({"detail": f"fault {fault}"}, status=int(fault), headers=headers)
        if len(names) > self.most:
            return web.json_response({"detail": f"at most {self.most} questions"}, status=422)
        if len(tokens) > self.window:
            return web.json_response({"detail": "request too large"}, status=413)
        began = time.monotonic()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        books, now = self.books, time.monotonic()
        books.busy_s, books.first_s, books.last_s = books.busy_s + now - began, min(books.first_s, began), now
        answers = {name: answer(name) for name in names}
        wrong = {name: self.question_fault(text, name) for name in names}
        if fault in ("refusal", "missing"):
            wrong[names[number % len(names)]] = fault
        for name, what in wrong.items():
            if what == "refusal":
                answers[name] = {"type": "refusal", "name": name}
            elif what == "missing":
                del answers[name]
        usage = self._book(tokens, [f"{hash(text)} {name}" for name in names])
        return web.json_response(reply(answers, usage, 100 if fault == "truncated" else 0))

    def _tokens(self, text: str, asked: Any) -> list[int]:
        written = text + "\n" + json.dumps(asked, ensure_ascii=False, separators=(",", ":"))
        return tokens_of(written)

    def _book(self, tokens: Sequence[int], names: Sequence[str]) -> Mapping[str, int]:
        beginnings = []
        hashed = 0
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            hashed = hash((hashed, *tokens[start : start + BLOCK]))
            beginnings.append(hashed)
        with self._lock:
            known = next((n for n, one in enumerate(beginnings) if one not in self._known), len(beginnings))
            self._known.update(beginnings)
            books = self.books
            books.questions += len(names)
            books.input_tokens += len(tokens)
            books.cached_tokens += known * BLOCK
            books.asked.update(names)
        return {"input_tokens": len(tokens), "cached_tokens": known * BLOCK}


def by_hash(text: str, question: str, option: str) -> float:
    """A weight that looks random."""
    digest = hashlib.sha256(f"{text}\0{question}\0{option}".encode("utf-8", "replace")).digest()
    return 0.02 + random.Random(digest).random() ** 3


def tokens_of(text: str) -> list[int]:
    """The ids of a text's tokens."""
    ids, _ = quicktok.get_encoding("o200k_base").encode_batch([text], 1)
    return [int(number) for number in ids]
