"""The judge ``openai``: one chat completion a request."""

from __future__ import annotations

from lrf.http_base import HttpJudge
from lrf.openai_wire import OPENAI_CODES, chat_body, json_schema_format, read_chat
from lrf.protocols import Capabilities
from lrf.replies import Reply, Request
from lrf.types import JSON
from lrf_openai.settings import OpenAIJudgeSettings


class OpenAIJudge(HttpJudge[OpenAIJudgeSettings]):
    """Asks a chat model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAIJudgeSettings) -> None:
        s = settings
        super().__init__(
            s,
            OPENAI_CODES,
            identity={
                "type": "openai",
                "model": s.model,
                "temperature": s.temperature,
                "reasoning_tokens": s.reasoning_tokens,
                "extra_body": s.extra_body,
            },
            capabilities=Capabilities(
                structured=s.structured,
                seed=s.seed,
                reasoning_tokens=s.reasoning_tokens,
                context_window=s.context_window,
            ),
        )

    async def complete(self, request: Request) -> Reply:
        return read_chat(await self.client.post("/chat/completions", self._body(request), timeout_s=request.deadline_s))

    def _body(self, request: Request) -> dict[str, JSON]:
        s = self.settings
        own = request.temperature if s.temperature is None else s.temperature
        body = chat_body(
            s.model, request, max_tokens_field=s.max_tokens_field, temperature=None if own == "omit" else own
        )
        body[s.max_tokens_field] += s.reasoning_tokens
        if request.schema is not None:
            body["response_format"] = json_schema_format(request.expects.kind, request.schema)
        if s.seed and request.seed is not None:
            body["seed"] = request.seed
        return {**body, **s.extra_body}
