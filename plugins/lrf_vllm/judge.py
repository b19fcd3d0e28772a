"""The judge ``vllm``: chat completions of a vLLM server, and the probabilities of labels."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lrf.errors import BadReplyError, JudgeError, TimedOutError, UnavailableError
from lrf.http.bases import HttpJudge
from lrf.http.client import HttpClient
from lrf.http.openai import chat_body, first_choice, post_chat, read_chat
from lrf.http.usage import read_usage
from lrf.prompting.questions import DECIDED_AT_ONCE
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities
from lrf.types import JSON
from lrf_vllm.metrics import EngineMetrics, parse_metrics
from lrf_vllm.settings import VLLMSettings
from lrf_vllm.weighing import MAX_LOGPROBS, MAX_QUESTIONS, checked_json, decide, weigh


class VLLMJudge(HttpJudge[VLLMSettings]):
    """Asks a chat model behind a vLLM server."""

    def __init__(self, settings: VLLMSettings) -> None:
        s = settings
        super().__init__(
            s,
            identity={"type": "vllm"},
            capabilities=Capabilities(
                probabilities=s.expected,
                structured=True,
                seed=True,
                context_window=s.context_window,
                calls=s.analysis + MAX_QUESTIONS,
                questions=DECIDED_AT_ONCE if s.decides else 1,
            ),
        )
        root = s.base_url.removesuffix("/v1")
        self._server = HttpClient(s.model_copy(update={"base_url": root}))
        self._looking: asyncio.Future[None] | None = None
        self._before: EngineMetrics | None = None

    async def complete(self, request: Request) -> Reply:
        await self._look_once()
        if request.reply_mode == "logprobs":
            return await self._weigh(request)
        body = self._body(request)
        if request.schema is not None:
            body["structured_outputs"] = {"json": request.schema}
        value = await post_chat(self.client, {**body, **self.settings.extra_body}, timeout_s=request.deadline_s)
        return checked_json(read_chat(value), request)

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """See :class:`lrf.protocols.AnswersSeveral`."""
        return await decide(self.complete, requests)

    async def metrics(self) -> Mapping[str, JSON]:
        """The server's metrics since the judge's first request, those of other users included.

        Raises a :class:`lrf.errors.JudgeError`.
        """
        if self._before is None:
            return {}
        return parse_metrics(await self._server.get_text("/metrics")).since(self._before).figures()

    async def aclose(self) -> None:
        await super().aclose()
        await self._server.aclose()
        self._looking = None

    # --- the server's window and metrics -----------------------------------------------------------------------------

    async def _look_once(self) -> None:
        """With the first request: read the model's longest context, and the metrics to subtract later."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        try:
            await asyncio.shield(self._looking)
        except JudgeError:
            self._looking = None
            raise

    async def _look(self) -> None:
        models, metrics = await asyncio.gather(self._text(self.client, "/models"), self._text(self._server, "/metrics"))
        if metrics is not None:
            self._before = parse_metrics(metrics)
        if self.capabilities.context_window is None and models is not None:
            self._capabilities = replace(self.capabilities, context_window=_window(models, self.settings.model))

    async def _text(self, client: HttpClient, path: str) -> str | None:
        """The text at a path; None if the server doesn't have it."""
        try:
            return await client.get_text(path)
        except (UnavailableError, TimedOutError):
            raise
        except JudgeError:
            return None

    # --- requests ----------------------------------------------------------------------------------------------------

    def _body(self, request: Request) -> dict[str, JSON]:
        body = chat_body(self.settings.model, request, temperature=request.temperature)
        if request.seed is not None:
            body["seed"] = request.seed
        return body

    async def _weigh(self, request: Request) -> Reply:
        async def write(stops: Sequence[str]) -> tuple[Reply, bool]:
            stop = {"stop": list(stops)} if stops else {}
            body = {**self._body(request), **stop, **self.settings.extra_body}
            value = await post_chat(self.client, body, timeout_s=request.deadline_s)
            return read_chat(value), first_choice(value).get("stop_reason") in stops

        async def next_token(so_far: str, labels: Sequence[str]) -> tuple[list[tuple[str, float]], Usage]:
            body = self._one_token(request, so_far, labels)
            value = await post_chat(self.client, body, timeout_s=request.deadline_s)
            return _likeliest(first_choice(value)), read_usage(value)

        return await weigh(request, write if self.settings.analysis else None, next_token)

    def _one_token(self, request: Request, so_far: str, labels: Sequence[str]) -> dict[str, JSON]:
        user = {"role": "user", "content": prompt_text(request.prompt)}
        return {
            **self.settings.extra_body,
            "model": self.settings.model,
            "messages": [user, {"role": "assistant", "content": so_far}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": MAX_LOGPROBS,
            "structured_outputs": {"choice": list(labels)},
        }


def _likeliest(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The likeliest tokens of a completion of one token, with their log probabilities."""
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        return [(str(entry["token"]), float(entry["logprob"])) for entry in listed]
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadReplyError("the reply holds no list of log probabilities") from None


def _window(models: str, model: str) -> int | None:
    """The model's ``max_model_len`` in the server's list of models; None without one."""
    try:
        listed = json.loads(models)["data"]
        window = next(entry["max_model_len"] for entry in listed if entry["id"] == model)
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None
    return window if isinstance(window, int) and window > 0 else None
