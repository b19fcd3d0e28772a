"""The OpenAPI document, made of the models that requests are checked with."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lrf_server.doors import DOORS
from lrf_server.messages import (
    DocumentRequest,
    DocumentResponse,
    ErrorResponse,
    HealthResponse,
    RewardResponse,
    RewardsRequest,
    RewardsResponse,
)

_MODELS = (
    DocumentRequest, DocumentResponse, ErrorResponse, HealthResponse, RewardResponse, RewardsRequest, RewardsResponse,
)  # fmt: skip
_ERRORS = {
    400: "The body is no JSON.",
    401: "The token is missing or wrong.",
    403: "From a web page of another site.",
    404: "Unknown id.",
    408: "The body came too slowly.",
    413: "The body or a document is too long.",
    415: "The body isn't declared as JSON.",
    421: "Not a name of this server.",
    422: "A field is wrong; the sentence names it.",
    429: "Too many answers are being scored; see Retry-After.",
    503: "There is no reward (doors).",
}
_REF = "#/components/schemas/{model}"


@cache
def openapi() -> dict[str, Any]:
    """The document."""
    _, schemas = models_json_schema([(model, "serialization") for model in _MODELS], ref_template=_REF)
    free = {"type": "object", "additionalProperties": True}
    paths = {
        "/v1/rewards": {"post": _operation("Rewards of answers", RewardsResponse, RewardsRequest)},
        "/v1/rewards/{id}": {"get": _operation("The outcome of an answer", RewardResponse, parameter="id")},
        "/v1/documents": {"post": _operation("Keep a document", DocumentResponse, DocumentRequest)},
        "/healthz": {"get": _operation("Whether the server takes requests", HealthResponse)},
    }
    for door in DOORS:
        summary = (door.answer.__doc__ or "").split(":")[0]
        paths[f"/doors/{door.path}"] = {"post": _operation(summary, None, free)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lrf serve", "version": version("lrf"), "description": "Rewards for long-context answers."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(
    summary: str, response: type[BaseModel] | None, body: type[BaseModel] | dict[str, Any] | None = None, *,
    parameter: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    shown = {} if response is None else _schema(response)
    answers = {str(status): _said(text, _schema(ErrorResponse)) for status, text in _ERRORS.items()}
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": _said("Done.", shown), **answers}}
    if body is not None:
        schema = body if isinstance(body, dict) else _schema(body)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if parameter is not None:
        operation["parameters"] = [{"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _said(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
