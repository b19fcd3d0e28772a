"""The judge ``anthropic``: one message for each request."""

from __future__ import annotations

from lrf.http.bases import HttpJudge
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf_anthropic.codes import ANTHROPIC_CODES
from lrf_anthropic.messages import is_message, message_body, read_message
from lrf_anthropic.prefixes import Mark, Prefixes
from lrf_anthropic.settings import AnthropicJudgeSettings

VERSION = "2023-06-01"
"""Version of the API, the latest."""


class AnthropicJudge(HttpJudge[AnthropicJudgeSettings]):
    """Asks a Claude model. It gives no label probabilities, takes no seeds, and follows no JSON schema."""

    def __init__(self, settings: AnthropicJudgeSettings) -> None:
        s = settings
        super().__init__(
            s,
            ANTHROPIC_CODES,
            identity={"type": "anthropic"},
            capabilities=Capabilities(reasoning_tokens=s.reasoning_tokens, context_window=s.context_window),
            key_header="x-api-key",
            headers={"anthropic-version": VERSION},
        )
        self._prefixes = Prefixes()

    async def complete(self, request: Request) -> Reply:
        mark = self._prefixes.mark(request.prompt) if self.settings.prompt_cache else None
        reply = None
        try:
            reply = await self._ask(request, mark)
        finally:
            if mark is not None:
                self._prefixes.sent(mark, succeeded=reply is not None)
        return reply

    async def _ask(self, request: Request, mark: Mark | None) -> Reply:
        s = self.settings
        own = request.temperature if s.temperature is None else s.temperature
        body = message_body(
            s.model,
            request,
            max_tokens=request.max_tokens + s.reasoning_tokens,
            temperature=None if own == "omit" else own,
            mark=mark,
        )
        value = await self.client.post("/v1/messages", {**body, **s.extra_body}, timeout_s=request.deadline_s)
        if not is_message(value):
            raise self.client.errors.of_other_json(value, "no message: it holds no list of content blocks")
        return read_message(value)
