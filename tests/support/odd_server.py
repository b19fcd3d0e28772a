"""A judge server that answers some requests in a way of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from judge_server import JudgeServer

Odd = Callable[[str], tuple[int, Any] | None]
"""Takes a prompt; gives the status and the JSON body of the answer, or None for an ordinary one."""


class OddServer(JudgeServer):
    """A :class:`JudgeServer` whose ``odd`` goes first. ``odd_calls`` counts what it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.odd: Odd = lambda _: None
        self.odd_calls = 0

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        answer = self.odd(body["messages"][-1]["content"])
        if answer is None:
            return await super()._chat(request)
        with self._lock:
            self.odd_calls += 1
        return web.json_response(answer[1], status=answer[0])


def completion(text: str | None, finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """The body of a completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 700, "completion_tokens": 20}, **fields}
