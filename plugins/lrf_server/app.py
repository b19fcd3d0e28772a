"""The server's routes: lrf's own API, the doors of training stacks, health, metrics, and the OpenAPI document."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

import lrf
from lrf.rows.document_store import DocumentStore
from lrf.rows.values import text_problem
from lrf.types import Sample
from lrf_server.body import Bodies, RequestError
from lrf_server.doors import DOORS
from lrf_server.guard import LOOPBACK, Guard
from lrf_server.messages import (
    Detail,
    DocumentRequest,
    DocumentResponse,
    HealthResponse,
    RewardResponse,
    RewardsRequest,
    RewardsResponse,
)
from lrf_server.openapi import openapi
from lrf_server.scorings import BusyError, Scored, Scorings
from lrf_server.service import Service, sentence

OWN_DEADLINE_S = 600.0
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Service, Request], Awaitable[Response]]


async def rewards(service: Service, request: Request) -> Response:
    """``POST /v1/rewards``: the outcome of each answer, once all are scored or the deadline has passed."""
    sample, detail, deadline_s = await _asked(service, request)
    scored = await service.score(sample, deadline_s or service.deadline_s or OWN_DEADLINE_S)
    shown = [response_of(service, one, detail, sample) for one in scored]
    return _json(RewardsResponse(rewards=shown, document_ids=[service.store.put(d.text) for d in sample.documents]))


async def _asked(service: Service, request: Request) -> tuple[Sample, Detail, float | None]:
    """What a request asks for. Its body, which may hold a long document, is forgotten before the answers are scored."""
    asked = _checked(RewardsRequest, await service.bodies.json(request))
    body = asked.model_dump(exclude_none=True, exclude={"detail", "deadline_s"})
    return await service.sample(body), asked.detail, asked.deadline_s


async def reward(service: Service, request: Request) -> Response:
    """``GET /v1/rewards/{id}``: the outcome of an answer."""
    scored = service.scorings.find(request.path_params["id"])
    if scored is None:
        raise RequestError(404, "no answer of this id is known (any more); POST it again: what is paid for is kept")
    return _json(response_of(service, scored, "reasons", None))


async def documents(service: Service, request: Request) -> Response:
    """``POST /v1/documents``: keep a document and say by which id it is named."""
    text = _checked(DocumentRequest, await service.bodies.json(request)).text
    if problem := text_problem(text):
        raise RequestError(422, f"text: {problem}")
    if not text.strip():
        raise RequestError(422, "text: the document is empty")
    service.check_length(text)
    return _json(DocumentResponse(id=await asyncio.to_thread(service.store.put, text)))


async def health(service: Service, request: Request) -> Response:
    """``GET /healthz``."""
    return _json(HealthResponse(status="ok", pipeline=service.name, open=service.scorings.open))


async def metrics(service: Service, request: Request) -> Response:
    """``GET /metrics``: figures for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def description(service: Service, request: Request) -> Response:
    """``GET /openapi.json``."""
    return JSONResponse(openapi())


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server behaves.

    Parameters
    ----------
    token: what requests must bring; None: nothing.
    hosts: the names that a request may call the server by; None: any.
    on_missing: what doors answer where their stack has no word for a missing reward: "error", or a number.
    deadline_s: how long any request waits, in place of its door's own deadline.
    max_open: answers being scored at once.
    max_body_bytes, max_document_characters: the longest request and the longest document.
    """

    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    on_missing: str | float = "error"
    deadline_s: float | None = None
    max_open: int = 4096
    max_body_bytes: int = 64 << 20
    max_document_characters: int = 16_000_000


def serving(model: lrf.RewardModel, options: ServerOptions) -> tuple[Guard, Scorings]:
    """The application that serves a model's rewards, and the answers that it scores."""
    assert model.run_dir is not None, "a model without a run has no place for documents"
    scorings = Scorings(model, options.max_open)
    service = Service(
        name=model.run_dir.name,
        model=model,
        store=DocumentStore(model.run_dir / "documents"),
        scorings=scorings,
        bodies=Bodies(options.max_body_bytes),
        most_characters=options.max_document_characters,
        deadline_s=options.deadline_s,
        on_missing=options.on_missing,
    )
    return Guard(_routes(service), options.token, options.hosts), scorings


def _routes(service: Service) -> Router:
    own = {
        ("POST", "/v1/rewards"): rewards,
        ("GET", "/v1/rewards/{id}"): reward,
        ("POST", "/v1/documents"): documents,
        ("GET", "/healthz"): health,
        ("GET", "/metrics"): metrics,
        ("GET", "/openapi.json"): description,
    }
    doors = {("POST", f"/doors/{door.path}"): _door(door.answer) for door in DOORS}
    endpoints = [Endpoint(service, method, path, handler) for (method, path), handler in (own | doors).items()]
    return Router([Route(endpoint.path, endpoint) for endpoint in endpoints], redirect_slashes=False, default=_unknown)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path as ASGI: what its handler raises becomes a status with a sentence, and every request counts.

    Starlette's own application has three middlewares for that, which take a tenth of a request's CPU.
    """

    service: Service
    method: str
    path: str
    handler: Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        response = await self._answer(Request(scope, receive))
        self.service.metrics.count_request(self.path, response.status_code, time.monotonic() - began)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != self.method and (request.method, self.method) != ("HEAD", "GET"):
            says = f"this path takes {self.method} only; see /openapi.json"
            return JSONResponse({"error": says}, 405, {"allow": self.method})
        try:
            return await self.handler(self.service, request)
        except RequestError as error:
            return JSONResponse({"error": str(error)}, error.status, error.headers)
        except BusyError as error:
            return JSONResponse({"error": str(error)}, 429, {"retry-after": str(error.retry_after_s)})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        says = JSONResponse({"error": "no such path; /openapi.json lists all"}, 404)
        await says(scope, receive, send)


def response_of(service: Service, scored: Scored, detail: Detail, sample: Sample | None) -> RewardResponse:
    """The outcome of an answer, as much of it as was asked for."""
    reward, value = scored.reward, scored.value
    if value is not None and not math.isfinite(value):
        raise RequestError(500, "the aggregator made a reward that is no finite number")
    status: Any = "scored" if value is not None else "unscored" if reward else "stopped" if scored.error else "pending"
    reason, message = scored.why
    more: dict[str, Any] = {}
    if value is None:
        more = {"reason": reason, "message": message}
    if reward is not None and detail != "reward":
        more["ratings"] = dict(reward.ratings)
        if detail in ("reasons", "evidence"):
            more["judgements"] = service.model.as_json(reward)["judgements"]
        if detail == "evidence" and sample is not None:
            more["judgements"] = _with_texts(more["judgements"], {d.id: d.text for d in sample.documents})
    return RewardResponse(id=scored.id, status=status, reward=value, **more)


def _with_texts(value: Any, texts: Mapping[str, str]) -> Any:
    """The JSON value with the text of every span of a document in it."""
    if isinstance(value, list):
        return [_with_texts(part, texts) for part in value]
    if not isinstance(value, Mapping):
        return value
    row = {name: _with_texts(part, texts) for name, part in value.items()}
    if {"document", "start", "end"} == row.keys():
        row["text"] = texts[row["document"]][row["start"] : row["end"]]
    return row


def _door(answer: Callable[[Service, dict[str, Any], Request], Awaitable[Any]]) -> Handler:
    async def handler(service: Service, request: Request) -> Response:
        return JSONResponse(await answer(service, await service.bodies.json(request), request))

    return handler


def _checked(model: type[M], body: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise RequestError(422, sentence(error)) from None


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_unset=True), status, media_type="application/json")
