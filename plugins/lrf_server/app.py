"""The server's routes: lrf's own API, the doors of training stacks, health, metrics, and the OpenAPI document."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import lrf
from lrf.rows.document_store import DocumentStore, document_id
from lrf.rows.values import text_problem
from lrf.types import Sample
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
from lrf_server.service import RequestError, Service, json_body, sentence

OWN_DEADLINE_S = 600.0
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Service, Request], Awaitable[Response]]


async def rewards(service: Service, request: Request) -> Response:
    """``POST /v1/rewards``: what has become of each answer, once all are scored or the deadline has passed."""
    asked = _checked(RewardsRequest, await json_body(request))
    body = asked.model_dump(exclude_none=True, exclude={"detail", "deadline_s"})
    sample = await service.sample(body)
    scored = await service.score(sample, asked.deadline_s or service.deadline_s or OWN_DEADLINE_S)
    shown = [response_of(service, one, asked.detail, sample) for one in scored]
    return _json(RewardsResponse(rewards=shown, document_ids=[document_id(d.text) for d in sample.documents]))


async def reward(service: Service, request: Request) -> Response:
    """``GET /v1/rewards/{id}``: what has become of an answer."""
    scored = service.scorings.find(request.path_params["id"])
    if scored is None:
        raise RequestError(404, "no answer of this id is known (any more); POST it again: what is paid for is kept")
    return _json(response_of(service, scored, "reasons", None))


async def documents(service: Service, request: Request) -> Response:
    """``POST /v1/documents``: keep a document and say by which id it is named."""
    text = _checked(DocumentRequest, await json_body(request)).text
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
        most_characters=options.max_document_characters,
        deadline_s=options.deadline_s,
        on_missing=options.on_missing,
    )
    return Guard(_routes(service), options.token, options.hosts, options.max_body_bytes), scorings


def _routes(service: Service) -> Starlette:
    routes = [
        Route("/v1/rewards", _guarded(service, "/v1/rewards", rewards), methods=["POST"]),
        Route("/v1/rewards/{id}", _guarded(service, "/v1/rewards/{id}", reward), methods=["GET"]),
        Route("/v1/documents", _guarded(service, "/v1/documents", documents), methods=["POST"]),
        Route("/healthz", _guarded(service, "/healthz", health), methods=["GET"]),
        Route("/metrics", _guarded(service, "/metrics", metrics), methods=["GET"]),
        Route("/openapi.json", _guarded(service, "/openapi.json", description), methods=["GET"]),
    ]
    for door in DOORS:
        handler = _door(door.answer)
        routes.append(Route(f"/doors/{door.path}", _guarded(service, f"/doors/{door.path}", handler), methods=["POST"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})


def response_of(service: Service, scored: Scored, detail: Detail, sample: Sample | None) -> RewardResponse:
    """What has become of an answer, as much of it as was asked for."""
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


def _door(answer: Callable[[Service, Mapping[str, Any], Request], Awaitable[Any]]) -> Handler:
    async def handler(service: Service, request: Request) -> Response:
        return JSONResponse(await answer(service, await json_body(request), request))

    return handler


def _guarded(service: Service, door: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler as Starlette wants it: what it raises becomes a status with a sentence, and every request counts."""

    async def endpoint(request: Request) -> Response:
        began = time.monotonic()
        try:
            response = await handler(service, request)
        except RequestError as error:
            response = JSONResponse({"error": str(error)}, error.status, error.headers)
        except BusyError as error:
            response = JSONResponse({"error": str(error)}, 429, {"retry-after": str(error.retry_after_s)})
        service.metrics.count_request(door, response.status_code, time.monotonic() - began)
        return response

    return endpoint


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    says = {404: "no such path; /openapi.json lists all", 405: "this path takes another method; see /openapi.json"}
    return JSONResponse({"error": says.get(status, "the request can't be answered")}, status, headers)


def _checked(model: type[M], body: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise RequestError(422, sentence(error)) from None


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_unset=True), status, media_type="application/json")
