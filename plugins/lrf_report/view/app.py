"""The server behind ``lrf view``: the report's page, and what it asks for, as JSON.

It listens on this machine only, and everything takes a token, which is in the address that the command prints and in
the page that it leads to: so neither other users of the machine nor pages of other sites can read or write. The Host
must be this machine's, so that no name elsewhere leads here.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import lrf
from lrf.errors import LrfError
from lrf.types import JSON
from lrf_report.audit import found_audit
from lrf_report.files import clean
from lrf_report.html import brief, page_text, policy
from lrf_report.view.labels import Labels

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST_ROWS = 1000
MOST_BYTES = 10_000
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin"}  # fmt: skip


@dataclass(frozen=True)
class View:
    """What the server answers from.

    Parameters
    ----------
    token: what every request must bring: the page's in its address, the others' as the header X-LRF-Token.
    labels: None: nothing can be labelled.
    """

    run: lrf.ScoredRun
    index: lrf.RunIndex
    token: str
    labels: Labels | None

    def check(self, given: str | None) -> None:
        """Raise the status 403 for another token than the server's."""
        if not hmac.compare_digest((given or "").encode(), self.token.encode()):
            raise HTTPException(403, "the token is missing: open the address that `lrf view` has printed")

    def page(self, request: Request) -> Response:
        self.check(request.query_params.get("token"))
        head: JSON = {"overview": None, "home": None, "ids": [], "name": self.run.name, "server": True}
        head |= {"token": self.token, "labels": self.labels is not None}
        text = page_text(self.run.name, head, [], connect=True)
        allowed = policy(connect=True) + "; frame-ancestors 'none'"
        return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": allowed})

    def overview(self, request: Request) -> JSON:
        besides = {"comparison": None, "audit": found_audit(self.run), "complete": self.index.complete}
        return {**self.index.figures(), **besides}

    def state(self, request: Request) -> JSON:
        return {name: getattr(self.index, name) for name in ("complete", "state", "scored")}

    def samples(self, request: Request) -> JSON:
        asked = request.query_params
        try:
            limit = min(MOST_ROWS, int(asked.get("limit", 100)))
            filter_, order, texts = asked.get("filter", ""), asked.get("order", "in_order"), "texts" in asked
            return self.index.samples(filter_, order, limit=limit, texts=texts)
        except (KeyError, ValueError) as error:
            raise HTTPException(400, f"unknown order or limit: {error}") from error

    def sample(self, request: Request) -> JSON:
        try:
            sample, around = self.index.sample(request.query_params.get("id", ""))
        except KeyError as error:
            raise HTTPException(404, "there is no such sample so far") from error
        return {"sample": brief(sample.facts()), "around": around}

    def exchanges(self, request: Request) -> JSON:
        return self.index.exchanges(request.query_params.get("sample", ""))

    def exchange(self, request: Request) -> JSON:
        number = request.query_params.get("number", "")
        exchange = self.index.exchange(int(number)) if number.isdecimal() and len(number) < 18 else None
        if exchange is None:
            raise HTTPException(404, "there is no such exchange")
        return dict(zip(("prompt", "reply", "reasoning"), exchange, strict=True))

    def question(self, request: Request) -> JSON:
        return None if self.labels is None else self.labels.question(self.index)

    def keep_label(self, given: Any) -> JSON:
        match given:
            case {"ticket": str(ticket), "choice": int() | None as choice} if self.labels is not None:
                try:
                    self.labels.answer(ticket, choice)
                except KeyError as error:
                    raise HTTPException(409, "this question was answered already, or asked too long ago") from error
                except ValueError as error:
                    raise HTTPException(400, f"expected a choice of {list(self.labels.choices)}") from error
                return {"done": len(self.labels.done)}
        raise HTTPException(400, "expected a ticket and a choice")

    async def label(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        self.check(request.headers.get("x-lrf-token"))
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, "too long")
        try:
            given = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "not JSON") from error
        return _json(await run_in_threadpool(self.keep_label, given))


def view_app(view: View) -> ASGIApp:
    """The server as an ASGI application."""

    def answers(get: Callable[[Request], JSON]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            view.check(request.headers.get("x-lrf-token"))
            try:
                return _json(get(request))
            except LrfError as error:
                raise HTTPException(500, str(error)) from error

        return endpoint

    routes = [
        Route("/", view.page),
        *(Route(f"/api/{get.__name__}", answers(get)) for get in
          (view.overview, view.state, view.samples, view.sample, view.exchanges, view.exchange, view.question)),
        Route("/api/label", view.label, methods=["POST"]),
    ]  # fmt: skip
    return OwnHost(Starlette(routes=routes, exception_handlers={HTTPException: _refused}))


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Refuses requests that call this machine by another name, or come from a page of another site."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            host, origin = headers.get("host", ""), headers.get("origin")
            if host.rsplit(":", 1)[0] not in LOOPBACK or (origin is not None and urlsplit(origin).netloc != host):
                await Response("this server is for this machine only", 403, HEADERS)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _json(value: JSON) -> Response:
    return Response(clean(json.dumps(value, ensure_ascii=False)), media_type="application/json", headers=HEADERS)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(
        clean(json.dumps({"error": error.detail})), error.status_code, HEADERS, media_type="application/json"
    )
