"""A judge whose replies are written beforehand."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.types import JSON

Scripted = Reply | str | BaseException
"""What a script gives for a request: a reply, a reply's text, or an exception to raise."""

Script = Callable[[Request], Scripted | Awaitable[Scripted]]


def valid_reply(request: Request) -> Reply:
    """A reply that holds what the request expects, whichever way it is asked for.

    The middle one of the options where there are options (a rating of 5), one statement for statements, a sentence
    for text. The same request always gets the same reply.
    """
    options = request.options
    choice = options[len(options) // 2] if options else ""
    if request.reply_mode == "logprobs":
        return Reply(choice, probabilities={option: float(option == choice) for option in options})
    if request.reply_mode == "json":
        return Reply(json.dumps(_of_schema(request.schema or {})))
    if request.expects.kind == "statements":
        return Reply("<statement>The sky was clear that day.</statement>")
    return Reply(f"It does in part what was asked for. {choice}".strip())


def _of_schema(schema: Mapping[str, JSON]) -> JSON:
    """The plainest value that satisfies a schema of the kinds that lrf's expectations use."""
    if "enum" in schema:
        return schema["enum"][len(schema["enum"]) // 2]
    match schema.get("type"):
        case "object":
            return {key: _of_schema(value) for key, value in schema["properties"].items()}
        case "array":
            return [_of_schema(schema["items"])]
        case "number" | "integer":
            return (schema.get("minimum", 0) + schema.get("maximum", 10)) // 2
        case _:
            return "The sky was clear that day."


class ScriptedJudge:
    """A :class:`lrf.protocols.Judge` that replies by a script, and remembers what it was asked.

    Parameters
    ----------
    script: a function from request to reply, text or exception (or a coroutine function); or a list of these,
        used in order. An exception is raised. Without a script every reply is :func:`valid_reply`.
    capabilities: what it says it can do. A text given for ``reply_mode="logprobs"`` that is one of the request's
        options becomes a reply that is certain of it.
    identity: part of the key under which replies are kept; give two judges different ones to keep them apart.
    keep_requests: whether requests are remembered; False saves memory where there are very many.

    Attributes
    ----------
    requests: all requests, in the order in which they came.
    packs: the requests of each call that had several; with ``capabilities.questions`` above 1 it is asked so.
    most_in_flight: the highest number of requests that were in flight at once.
    closed: whether ``aclose`` was called.
    """

    def __init__(
        self,
        script: Script | Iterable[Scripted] = valid_reply,
        *,
        capabilities: Capabilities | None = None,
        identity: Mapping[str, JSON] | None = None,
        max_concurrency: int = 8,
        request_timeout_s: float = 30.0,
        keep_requests: bool = True,
    ) -> None:
        self._script = script if callable(script) else _one_by_one(iter(script))
        self._capabilities = capabilities or Capabilities()
        self._identity: Mapping[str, JSON] = identity or {"type": "scripted"}
        self._max_concurrency = max_concurrency
        self._request_timeout_s = request_timeout_s
        self._in_flight = 0
        self._keep_requests = keep_requests
        self.requests: list[Request] = []
        self.most_in_flight = 0
        self.packs: list[list[Request]] = []
        self.closed = False

    @property
    def identity(self) -> Mapping[str, JSON]:
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def max_concurrency(self) -> int:
        return self._max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._request_timeout_s

    async def complete(self, request: Request) -> Reply:
        """The script's reply to this request. Raises what the script gives to be raised."""
        if self._keep_requests:
            self.requests.append(request)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            given = self._script(request)
            scripted = await given if inspect.isawaitable(given) else given
        finally:
            self._in_flight -= 1
        if isinstance(scripted, BaseException):
            raise scripted
        reply = Reply(scripted) if isinstance(scripted, str) else scripted
        if request.reply_mode == "logprobs" and reply.probabilities is None and reply.text in request.options:
            return replace(reply, probabilities={o: float(o == reply.text) for o in request.options})
        return reply

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """The script's reply to each request; the first one's usage is that of the call."""
        self.packs.append(list(requests))
        replies = [await self.complete(request) for request in requests]
        usages = replies[0].usage.shared(len(replies))
        return [replace(reply, usage=usage) for reply, usage in zip(replies, usages, strict=True)]

    async def aclose(self) -> None:
        self.closed = True


def _one_by_one(replies: Iterator[Scripted]) -> Script:
    used = 0

    def script(request: Request) -> Scripted:
        nonlocal used
        for reply in replies:
            used += 1
            return reply
        raise AssertionError(f"the script has only {used} replies, and the judge was asked for another")

    return script
