"""A small OpenAI-compatible server that plays the policy: it takes `n`, seeds, tools and turns of every role."""

from __future__ import annotations

import json
import random
from typing import Any

from aiohttp import web

from judge_server import JudgeServer, refusal

WORDS = ("the", "fee", "contract", "names", "is", "euros", "of", "signed", "in", "town", "clause", "both")


class PolicyServer(JudgeServer):
    """Candidates drawn from the seed, or, without one, in the order of the calls. ``bodies`` are all requests."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Any] = []
        self.texts: list[str] | None = None
        self.choices: int | None = None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = "\n".join(str(m["content"]) for m in body["messages"])
        with self._lock:
            fault = self._fault_for(prompt)
            self.bodies.append(body)
            number = len(self.bodies)
        refused = refusal(fault)
        if refused is not None:
            return refused
        wanted = min(body.get("n", 1), 128 if self.choices is None else self.choices)
        texts = [self._text(body.get("seed", number), i) for i in range(wanted)]
        with self._served:
            self.books.asked[json.dumps([prompt, body.get("seed"), number])] += 1
            self.books.served[str(number)] += 1
            self._served.notify_all()
        finish = {"cut": "length", "filter": "content_filter", "odd end": "fnord"}.get(fault or "", "stop")
        choices = [
            {"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": sum(len(t) // 4 for t in texts)}
        return web.json_response({"model": body["model"], "choices": choices, "usage": usage})

    def _text(self, seed: int, choice: int) -> str:
        rng = random.Random(f"{seed}/{choice}")
        if self.texts:
            return rng.choice(self.texts)
        return " ".join(rng.choices(WORDS, k=12)) + f" {rng.randint(0, 10**9)}."
