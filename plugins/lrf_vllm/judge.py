"""The judge ``vllm``: chat completions of a vLLM server, and the probabilities of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lrf.errors import BadReply, Rejected
from lrf.http import HttpClient
from lrf.openai_wire import chat_body, first_choice, json_schema_format, read_chat, read_usage
from lrf.protocols import Capabilities
from lrf.replies import Reply, Request, Usage, cue_of
from lrf.templates import prompt_text
from lrf.types import JSON
from lrf_vllm.labels import common_beginning, label_probabilities
from lrf_vllm.metrics import ServerMetrics, parse_metrics
from lrf_vllm.settings import VLLMSettings

_QUESTIONS = 2  # to tell labels apart: ratings differ in the first or second token, verdicts in the first
_MOST_LOGPROBS = 20  # what a server gives unless started with another --max-logprobs


class VLLMJudge:
    """Asks a chat model behind a vLLM server.

    With ``way="expected"`` the model writes its analysis up to the mark, then the labels are weighed at that place:
    the analysis is computed once, and what comes after it takes one token, rarely a few.
    """

    def __init__(self, settings: VLLMSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings)
        root = settings.base_url.removesuffix("/v1")
        self._server = HttpClient(settings.model_copy(update={"base_url": root}))

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {"type": "vllm", "model": s.model, "analysis": s.analysis, "extra_body": s.extra_body}

    @property
    def capabilities(self) -> Capabilities:
        s = self._settings
        return Capabilities(probabilities=s.expected, structured=True, seed=True, calls=s.analysis + _QUESTIONS)

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        if request.way == "expected":
            return await self._weigh(request)
        body = self._body(request)
        if request.schema is not None:
            body["response_format"] = json_schema_format(request.expects.kind, request.schema)
        return read_chat(await self._send({**body, **self._settings.extra_body}, request))

    async def metrics(self) -> ServerMetrics:
        """What the server says of its queue and of its prefix cache. Raises a :class:`lrf.errors.JudgeError`."""
        return parse_metrics(await self._server.get_text("/metrics"))

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._server.aclose()

    def _body(self, request: Request) -> dict[str, JSON]:
        body = chat_body(self._settings.model, request, temperature=request.temperature)
        if request.seed is not None:
            body["seed"] = request.seed
        return body

    async def _send(self, body: Mapping[str, JSON], request: Request) -> Any:
        return await self._client.post("/chat/completions", body, timeout_s=request.deadline_s)

    # --- weighing labels -------------------------------------------------------------------------------------------

    async def _weigh(self, request: Request) -> Reply:
        cue = cue_of(request.prompt, request.options)
        written = Reply("")
        text = cue
        if self._settings.analysis:
            shared = common_beginning(request.options)
            stops = [shared] if shared else list(request.options)
            body = {**self._body(request), "stop": stops, **self._settings.extra_body}
            value = await self._send(body, request)
            written = read_chat(value)
            if written.finish != "stop":
                return written
            text = written.text.lstrip()
            if first_choice(value).get("stop_reason") not in stops:  # it ended without coming to its rating
                text = f"{text.rstrip()}\n{cue}"
        usages = [written.usage] if self._settings.analysis else []
        most = len(usages) + _QUESTIONS

        async def next_token(so_far: str, labels: Sequence[str]) -> list[tuple[str, float]]:
            if len(usages) == most:
                raise Rejected(f"two tokens don't tell {list(request.options)} apart; the dimension needs `rating: text`")
            value = await self._send(self._one_token(request, so_far, labels), request)
            usages.append(read_usage(value))
            return _likeliest(first_choice(value))

        probabilities = await label_probabilities(next_token, text, request.options)
        best = max(request.options, key=lambda option: probabilities[option])
        return replace(written, text=text + best, usage=_sum(usages), probabilities=probabilities)

    def _one_token(self, request: Request, so_far: str, labels: Sequence[str]) -> dict[str, JSON]:
        """Asks for the one token after ``so_far``, held to the beginnings of the labels."""
        user = {"role": "user", "content": prompt_text(request.prompt)}
        return {
            **self._settings.extra_body,
            "model": self._settings.model,
            "messages": [user, {"role": "assistant", "content": so_far}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _MOST_LOGPROBS,
            "structured_outputs": {"choice": list(labels)},
        }


def _likeliest(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The likeliest tokens at the only place of a completion, with their log probabilities."""
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        return [(str(entry["token"]), float(entry["logprob"])) for entry in listed]
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadReply("the reply holds no list of log probabilities") from None


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(u.prompt_tokens for u in usages),
        sum(u.completion_tokens for u in usages),
        sum(u.cached_tokens for u in usages),
        sum(u.calls for u in usages),
    )
