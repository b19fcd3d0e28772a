"""The forms in which training stacks ask for rewards over HTTP, one function a stack.

Each reads what its stack sends and answers in its form. Where a stack has no word for a missing reward, the request
fails (status 503), so that the stack tries again or stops; ``?on_missing=value&missing_value=NUMBER`` at the end of the
door's address answers with that number instead.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from lrf.errors import DataError
from lrf.rows.asked import reference
from lrf.rows.chat_text import answer_text, prompt_and_answer
from lrf.types import Sample
from lrf_server.body import RequestError
from lrf_server.scorings import Scored, dimensions_of, rating_of
from lrf_server.service import Service, missing

LABELS = ("label", "labels", "ground_truth", "extra_info", "lrf")
"""Fields of a row that may say which document and question an answer belongs to."""


async def openrlhf(service: Service, body: dict[str, Any], request: Request) -> Any:
    """OpenRLHF's remote reward model: ``{"query", "prompts", "labels"}``, texts with the chat's marks."""
    samples = await _samples(service, _openrlhf_rows(body), request)
    body.clear()  # its texts may be long, and scoring takes a while
    scored = await _score(service, samples, 170)
    numbers = _numbers(service, scored, request)
    logs = {name: [rating_of(one, name) for one in scored] for name in dimensions_of(scored)}
    return {
        "rewards": numbers,
        "scores": [min(1.0, max(0.0, number / 10)) for number in numbers],
        "extra_logs": {name: ratings for name, ratings in logs.items() if None not in ratings},
    }


def _openrlhf_rows(body: Mapping[str, Any]) -> list[_Row]:
    queries, prompts = _texts(body, "query", least=0), _texts(body, "prompts", least=0)  # empty: for another server
    labels = body.get("labels") or [None] * len(prompts)
    if not (isinstance(labels, list) and len(queries) == len(prompts) == len(labels)):
        raise RequestError(422, "query, prompts and labels: expected lists of one length")
    rows = list(zip(queries, prompts, labels, strict=True))
    if not all(query.startswith(prompt) for query, prompt, _ in rows):
        raise RequestError(422, "query: expected the text of prompts, then the answer")
    return [_Row(prompt, answer_text(query[len(prompt) :]), label) for query, prompt, label in rows]


async def slime(service: Service, body: dict[str, Any], request: Request) -> Any:
    """slime's ``remote_rm``: ``{"prompt", "response", "label"}``; the body of the response is the reward."""
    (response,) = _texts({"response": [body.get("response")]}, "response")
    row = _Row(body.pop("prompt", None), answer_text(response), body.pop("label", None))
    scored = await _score(service, await _samples(service, [row], request), 110)
    return _numbers(service, scored, request)[0]


async def llama_factory(service: Service, body: dict[str, Any], request: Request) -> Any:
    """LLaMA-Factory's reward model by API: ``{"model", "messages": [whole chat as text, …]}``."""
    try:
        rows = [_Row(*prompt_and_answer(text)) for text in _texts(body, "messages")]
    except DataError as error:
        raise RequestError(422, str(error)) from None
    del body["messages"]
    scored = await _score(service, await _samples(service, rows, request), 600)
    return {"model": body.get("model"), "scores": _numbers(service, scored, request)}


async def nemo_gym(service: Service, body: dict[str, Any], request: Request) -> Any:
    """NeMo Gym's ``/verify``: the request with its ``reward``; a missing one is marked as its own failed judge is."""
    asked, response = body.get("responses_create_params"), body.get("response")
    if not isinstance(asked, Mapping) or not isinstance(response, Mapping):
        raise RequestError(422, "responses_create_params and response: expected objects")
    given = asked.get("input")
    prompt = given if isinstance(given, str) else [_turn(item) for item in _list(given)]
    answer = "".join(_said(item) for item in _list(response.get("output")) if item.get("type") == "message")
    (scored,) = await _score(service, await _samples(service, [_Row(prompt, answer, body)], request), 280)
    ratings = {name: rating_of(scored, name) for name in dimensions_of([scored])}
    row = {**body, "reward": scored.value, "reward_components": {n: r for n, r in ratings.items() if r is not None}}
    return row if scored.value is not None else {**row, **_nemo_gym_failure(body, scored.why[1])}


def _nemo_gym_failure(body: Mapping[str, Any], why: str) -> dict[str, Any]:
    """What NeMo Gym's ``judge_failsafe`` marks a failed judge with, in its newer fields and in its older ones.

    Its type demands a number, and its collector and trainers leave out of everything what is marked so.
    """
    config = body.get("instance_config")
    return {
        "reward": 0.0,
        "mask_sample": True,
        "failure_kind": "judge_failed",
        "failure_reason": why[:2000],
        "instance_config": {**(config if isinstance(config, dict) else {}), "mask_sample": True},
        "_ng_failure_class": "judge_failed",
        "_ng_failure_judge_error": why[:2000],
    }


class Door(NamedTuple):
    """A door's path under ``/doors/`` and the function behind it."""

    path: str
    answer: Callable[[Service, dict[str, Any], Request], Awaitable[Any]]


DOORS = (
    Door("openrlhf", openrlhf),
    Door("slime", slime),
    Door("llama_factory", llama_factory),
    Door("nemo_gym/verify", nemo_gym),
)


class _Row(NamedTuple):
    """An answer, and where its document and question are: in the policy's prompt, or named by a label."""

    prompt: Any
    answer: str
    label: Any = None


async def _samples(service: Service, rows: list[_Row], request: Request) -> list[Sample]:
    """A sample of one answer for each row, which are forgotten one by one. Raises :class:`RequestError`."""
    samples = []
    while rows:
        samples.append(await service.sample(_asked(rows.pop(0), request)))
    return samples


def _asked(row: _Row, request: Request) -> dict[str, Any]:
    """The fields of a request (:mod:`lrf.rows.asked`): document and question by the label, or else by the prompt."""
    named = dict(reference(row.label))
    if isinstance(row.label, Mapping):
        for name in LABELS:
            named = {**reference(row.label.get(name)), **named}
    header = request.headers.get("lrf-document-id")
    if header and not {"document_ids", "context", "messages"} & named.keys():
        named["document_ids"] = [header]
    complete = ("query" in named and ({"document_ids", "context"} & named.keys())) or "messages" in named
    if not complete and row.prompt is None:
        raise RequestError(422, "prompt: missing, and no label names document and question")
    return {**named, "answers": [row.answer], **({} if complete else {"prompt": row.prompt})}


async def _score(service: Service, samples: Sequence[Sample], deadline_s: float) -> list[Scored]:
    """The outcome of each answer, in order. Raises :class:`RequestError` where nothing can be scored."""
    asked = (service.score(sample, service.deadline_s or deadline_s) for sample in samples)
    ended = await asyncio.gather(*asked, return_exceptions=True)
    scored: list[Scored] = []
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome
        scored += outcome
    for one in scored:
        if one.error is not None:  # no answer's own failure, and no reason to train on
            raise RequestError(503, f"scoring is stopped: {one.error}")
    return scored


def _numbers(service: Service, scored: Sequence[Scored], request: Request) -> list[float]:
    """The rewards as numbers, or what is to stand for those that are missing. Raises :class:`RequestError`."""
    without = missing(scored)
    if without is not None:
        rule: str | float = request.query_params.get("on_missing") or service.on_missing
        if rule == "value":
            rule = _number(request.query_params.get("missing_value"))
        if not isinstance(rule, float):
            if rule != "error":
                raise RequestError(400, "on_missing: expected error, or value with missing_value=NUMBER")
            reason, why = without.why
            raise RequestError(503, f"no reward ({reason}): {why}", None if without.final else {"retry-after": "1"})
        return [rule if one.value is None else one.value for one in scored]
    return [one.value for one in scored if one.value is not None]


def _number(text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(400, "missing_value: expected a number")
    return number


def _texts(body: Mapping[str, Any], name: str, least: int = 1) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or len(value) < least or not all(isinstance(text, str) for text in value):
        raise RequestError(422, f"{name}: expected a list of texts{', at least one' if least else ''}")
    return value


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _said(item: Mapping[str, Any]) -> str:
    """The text of a message in the form of OpenAI's Responses API."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in _list(content) if isinstance(part.get("text"), str))


def _turn(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": item.get("role"), "content": _said(item)}
