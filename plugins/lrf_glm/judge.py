"""The judge ``glm``: one chat completion for each request."""

from __future__ import annotations

import json

from lrf.http.bases import HttpJudge
from lrf.http.openai import chat_body, post_chat, read_chat
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.types import JSON
from lrf_glm.codes import GLM_CODES
from lrf_glm.settings import GLMJudgeSettings

_WITH_SCHEMA = "\n\nReply with one JSON object that satisfies this JSON schema, and with nothing else:\n"


class GLMJudge(HttpJudge[GLMJudgeSettings]):
    """Asks a GLM model. It gives no label probabilities, and JSON objects whose schema is not enforced."""

    def __init__(self, settings: GLMJudgeSettings) -> None:
        s = settings
        super().__init__(
            s,
            GLM_CODES,
            identity={"type": "glm", "reasoning_tokens": s.tokens_for_thoughts},
            capabilities=Capabilities(
                structured=s.structured, reasoning_tokens=s.tokens_for_thoughts, context_window=s.context_window
            ),
        )

    async def complete(self, request: Request) -> Reply:
        value = await post_chat(self.client, self._body(request), timeout_s=request.deadline_s)
        return read_chat(value)

    def _body(self, request: Request) -> dict[str, JSON]:
        s = self.settings
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
