"""The forms in which training stacks ask for rewards over HTTP, one function a stack.

Each reads what its stack sends and answers in its form. Where a stack has no word for a missing reward, the request
fails (status 503), so that the stack tries again or stops; ``?on_missing=value&missing_value=NUMBER`` at the end of the
door's address answers with that number instead.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from lrf.errors import DataError
from lrf.rows.asked import reference
from lrf.rows.chat_text import answer_text, prompt_and_answer
from lrf_server.scorings import Scored, dimensions_of, rating_of
from lrf_server.service import RequestError, Service, missing

LABELS = ("label", "labels", "ground_truth", "extra_info", "lrf")
"""Fields of a row that may say which document and question an answer belongs to."""


async def openrlhf(service: Service, body: Mapping[str, Any], request: Request) -> Any:
    """OpenRLHF's remote reward model: ``{"query", "prompts", "labels"}``, texts with the chat's marks."""
    queries, prompts = _texts(body, "query"), _texts(body, "prompts")
    labels = body.get("labels") or [None] * len(prompts)
    if not (isinstance(labels, list) and len(queries) == len(prompts) == len(labels)):
        raise RequestError(422, "query, prompts and labels: expected lists of one length")
    if not all(query.startswith(prompt) for query, prompt in zip(queries, prompts, strict=True)):
        raise RequestError(422, "query: expected the text of prompts, then the answer")
    scored = await _together(
        _score(service, prompt, answer_text(query[len(prompt) :]), label, 170, request)
        for query, prompt, label in zip(queries, prompts, labels, strict=True)
    )
    numbers = _numbers(service, scored, request)
    logs = {name: [rating_of(one, name) for one in scored] for name in dimensions_of(scored)}
    return {
        "rewards": numbers,
        "scores": [min(1.0, max(0.0, number / 10)) for number in numbers],
        "extra_logs": {name: ratings for name, ratings in logs.items() if None not in ratings},
    }


async def slime(service: Service, body: Mapping[str, Any], request: Request) -> Any:
    """slime's ``remote_rm``: ``{"prompt", "response", "label"}``; the body of the response is the reward."""
    (response,) = _texts({"response": [body.get("response")]}, "response")
    scored = await _score(service, body.get("prompt"), answer_text(response), body.get("label"), 110, request)
    return _numbers(service, [scored], request)[0]


async def llama_factory(service: Service, body: Mapping[str, Any], request: Request) -> Any:
    """LLaMA-Factory's reward model by API: ``{"model", "messages": [whole chat as text, …]}``."""
    try:
        chats = [prompt_and_answer(text) for text in _texts(body, "messages")]
    except DataError as error:
        raise RequestError(422, str(error)) from None
    scored = await _together(_score(service, prompt, answer, None, 600, request) for prompt, answer in chats)
    return {"model": body.get("model"), "scores": _numbers(service, scored, request)}


async def nemo_gym(service: Service, body: Mapping[str, Any], request: Request) -> Any:
    """NeMo Gym's ``/verify``: the request with its ``reward``; one that is missing is marked ``judge_failed``."""
    asked, response = body.get("responses_create_params"), body.get("response")
    if not isinstance(asked, Mapping) or not isinstance(response, Mapping):
        raise RequestError(422, "responses_create_params and response: expected objects")
    given = asked.get("input")
    prompt = given if isinstance(given, str) else [_turn(item) for item in _list(given)]
    answer = "".join(_said(item) for item in _list(response.get("output")) if item.get("type") == "message")
    scored = await _score(service, prompt, answer, body, 280, request)
    ratings = {name: rating_of(scored, name) for name in dimensions_of([scored])}
    row = {**body, "reward": scored.value, "reward_components": {n: r for n, r in ratings.items() if r is not None}}
    if scored.value is None:  # NeMo Gym leaves out of its aggregates what is marked so
        return {**row, "reward": 0.0, "judge_failed": True, "judge_error": scored.why[1]}
    return row


class Door(NamedTuple):
    """A door's path under ``/doors/`` and the function behind it."""

    path: str
    answer: Callable[[Service, Mapping[str, Any], Request], Awaitable[Any]]


DOORS = (
    Door("openrlhf", openrlhf),
    Door("slime", slime),
    Door("llama_factory", llama_factory),
    Door("nemo_gym/verify", nemo_gym),
)


async def _score(service: Service, prompt: Any, answer: str, label: Any, deadline_s: float, request: Request) -> Scored:
    """Score an answer whose document and question the label names, or else the prompt holds."""
    named = dict(reference(label))
    if isinstance(label, Mapping):
        for name in LABELS:
            named = {**reference(label.get(name)), **named}
    header = request.headers.get("lrf-document-id")
    if header and not {"document_ids", "context", "messages"} & named.keys():
        named["document_ids"] = [header]
    complete = ("query" in named and ({"document_ids", "context"} & named.keys())) or "messages" in named
    body = {**named, "answers": [answer], **({} if complete else {"prompt": prompt})}
    if not complete and prompt is None:
        raise RequestError(422, "prompt: missing, and no label names document and question")
    (scored,) = await service.score(await service.sample(body), service.deadline_s or deadline_s)
    if scored.error is not None:  # nothing can be scored: no answer's own failure, and no reason to train on
        raise RequestError(503, f"scoring is stopped: {scored.error}")
    return scored


async def _together(answers: Iterable[Coroutine[Any, Any, Scored]]) -> list[Scored]:
    """All of them at once, in order. The first error is raised when all have ended."""
    ended = await asyncio.gather(*answers, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if isinstance(one, Scored)]


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


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise RequestError(422, f"{name}: expected a list of texts, at least one")
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
