"""The sampler ``openai``: candidates by chat completions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lrf.errors import BadReplyError, JudgeMisconfiguredError
from lrf.http.client import HttpClient
from lrf.http.openai import OPENAI_CODES, post_chat, read_chat
from lrf.prompting.requests import Reply, Usage
from lrf.protocols import Capabilities, GenerationSettings
from lrf.text.chunking import count_tokens
from lrf.types import JSON, Message
from lrf_openai.settings import OpenAISamplerSettings


class OpenAISampler:
    """Draws candidates from a chat model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAISamplerSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings, OPENAI_CODES)

    @property
    def identity(self) -> Mapping[str, JSON]:
        return {"type": "openai", **self._settings.identity_fields()}

    @property
    def capabilities(self) -> Capabilities:
        s = self._settings
        return Capabilities(seed=s.seed, reasoning_tokens=s.reasoning_tokens, context_window=s.context_window)

    @property
    def per_call(self) -> int:
        return self._settings.choices

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        value = await post_chat(self._client, self._body(generation))
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list) or not choices:
            raise BadReplyError("the reply is JSON, but no completion: it holds no choices")
        wanted = len(generation.seeds)
        if len(choices) < wanted:
            raise JudgeMisconfiguredError(
                f"{self._settings.base_url} gave {len(choices)} of {wanted} choices; this server doesn't take `n`: set "
                "`choices: 1` for the sampler"
            )
        return _shared_out([read_chat({**value, "choices": [choice]}) for choice in choices[:wanted]])

    async def aclose(self) -> None:
        await self._client.aclose()

    def _body(self, generation: GenerationSettings) -> dict[str, JSON]:
        s = self._settings
        body: dict[str, JSON] = {
            "model": s.model,
            "messages": [_wire(m) for m in generation.messages],
            "temperature": generation.temperature,
            s.max_tokens_field: generation.max_tokens + s.reasoning_tokens,
        }
        if generation.tools:
            body["tools"] = [dict(tool) for tool in generation.tools]
        if generation.top_p < 1:
            body["top_p"] = generation.top_p
        if len(generation.seeds) > 1:
            body["n"] = len(generation.seeds)
        if s.seed:
            body["seed"] = generation.seeds[0]
        return {**body, **s.extra_body}


def _wire(message: Message) -> dict[str, Any]:
    """The turn as OpenAI's API takes it: arguments as JSON text."""
    row = message.as_row()
    for call in row.get("tool_calls", ()):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return row


def _shared_out(replies: list[Reply]) -> list[Reply]:
    """The replies of one request: the prompt counts in the first, what was written in each by its length."""
    if len(replies) == 1:
        return replies
    usage = replies[0].usage
    lengths = [count_tokens(r.text) + 1 for r in replies]
    left = usage.completion_tokens
    shared = []
    for number, reply in enumerate(replies):
        part = left * lengths[number] // sum(lengths[number:])
        own = Usage(0, part) if number else replace(usage, completion_tokens=part)
        shared.append(replace(reply, usage=own))
        left -= part
    return shared
