"""The judge ``glm``: one chat completion a request."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lrf.errors import Unavailable
from lrf.http import HttpClient
from lrf.openai_wire import chat_body, first_choice, read_chat
from lrf.protocols import Capabilities
from lrf.replies import Reply, Request
from lrf.types import JSON
from lrf_glm.codes import GLM_CODES
from lrf_glm.settings import GLMJudgeSettings

_WITH_SCHEMA = "\n\nReply with one JSON object that satisfies this JSON schema, and with nothing else:\n"


class GLMJudge:
    """Asks a GLM model. There are no label probabilities, and JSON objects without an enforced schema."""

    def __init__(self, settings: GLMJudgeSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings, GLM_CODES)

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "glm",
            "model": s.model,
            "thinking": s.thinking,
            "reasoning_effort": s.reasoning_effort,
            "reasoning_tokens": s.tokens_for_thoughts,
            "extra_body": s.extra_body,
        }

    @property
    def capabilities(self) -> Capabilities:
        s = self._settings
        return Capabilities(structured=s.structured, reasoning_tokens=s.tokens_for_thoughts)

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        value = await self._client.post("/chat/completions", self._body(request), timeout_s=request.deadline_s)
        if first_choice(value).get("finish_reason") == "network_error":
            raise Unavailable(f"{self._settings.base_url} (model {self._settings.model}): the model broke off")
        return read_chat(value)

    async def aclose(self) -> None:
        await self._client.aclose()

    def _body(self, request: Request) -> dict[str, JSON]:
        s = self._settings
        body = chat_body(s.model, request, temperature=request.temperature)
        body["max_tokens"] += s.tokens_for_thoughts
        if request.schema is not None:
            body["response_format"] = {"type": "json_object"}
            body["messages"][-1]["content"] += _WITH_SCHEMA + json.dumps(request.schema, ensure_ascii=False)
        if s.thinking is not None:
            body["thinking"] = {"type": s.thinking}
        if s.reasoning_effort is not None:
            body["reasoning_effort"] = s.reasoning_effort
        return {**body, **s.extra_body}
