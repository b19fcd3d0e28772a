"""The judge ``anthropic``: one message a request."""

from __future__ import annotations

from collections.abc import Mapping

from lrf.errors import JudgeMisconfigured, Rejected
from lrf.http import HttpClient
from lrf.protocols import Capabilities
from lrf.replies import Reply, Request
from lrf.types import JSON
from lrf_anthropic.codes import ANTHROPIC_CODES, NO_CREDIT
from lrf_anthropic.messages import message_body, read_message
from lrf_anthropic.settings import AnthropicJudgeSettings

VERSION = "2023-06-01"
"""Of the API; there is no later one."""


class AnthropicJudge:
    """Asks a Claude model. There are no label probabilities, no seeds, and no replies held to a schema."""

    def __init__(self, settings: AnthropicJudgeSettings) -> None:
        self._settings = settings
        self._client = HttpClient(
            settings, ANTHROPIC_CODES, key_header="x-api-key", headers={"anthropic-version": VERSION}
        )

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "anthropic",
            "model": s.model,
            "temperature": s.temperature,
            "reasoning_tokens": s.reasoning_tokens,
            "extra_body": s.extra_body,
        }

    @property
    def capabilities(self) -> Capabilities:
        s = self._settings
        return Capabilities(reasoning_tokens=s.reasoning_tokens, context_window=s.context_window)

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        s = self._settings
        own = request.temperature if s.temperature is None else s.temperature
        body = message_body(
            s.model,
            request,
            max_tokens=request.max_tokens + s.reasoning_tokens,
            temperature=None if own == "omit" else own,
        )
        try:
            value = await self._client.post("/v1/messages", {**body, **s.extra_body}, timeout_s=request.deadline_s)
        except Rejected as e:
            if NO_CREDIT in str(e):
                raise JudgeMisconfigured(f"{e}; add credit to the account, then run again") from None
            raise
        return read_message(value)

    async def aclose(self) -> None:
        await self._client.aclose()
