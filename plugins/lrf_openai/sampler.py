"""The sampler ``openai``: candidates from chat completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lrf.errors import JudgeMisconfiguredError
from lrf.http.bases import HttpSampler
from lrf.http.openai import OPENAI_CODES, post_chat, read_chat
from lrf.prompting.requests import Reply, Usage
from lrf.protocols import Capabilities, GenerationSettings
from lrf.text.chunking import count_tokens
from lrf.types import JSON, Message
from lrf_openai.settings import OpenAISamplerSettings


class OpenAISampler(HttpSampler[OpenAISamplerSettings]):
    """Samples candidates from a chat model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAISamplerSettings) -> None:
        s = settings
        super().__init__(
            s,
            OPENAI_CODES,
            identity={"type": "openai"},
            capabilities=Capabilities(
                seed=s.seed, reasoning_tokens=s.reasoning_tokens, context_window=s.context_window
            ),
        )

    @property
    def per_call(self) -> int:
        return self.settings.choices

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        value = await post_chat(self.client, self._body(generation))
        choices = value["choices"]
        wanted = len(generation.seeds)
        if len(choices) < wanted:
            raise JudgeMisconfiguredError(
                f"{self.settings.base_url} gave {len(choices)} of {wanted} choices; this server doesn't take `n`: set "
                "`choices: 1` for the sampler"
            )
        return _with_shared_usage([read_chat({**value, "choices": [choice]}) for choice in choices[:wanted]])

    def _body(self, generation: GenerationSettings) -> dict[str, JSON]:
        s = self.settings
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


def _with_shared_usage(replies: list[Reply]) -> list[Reply]:
    """The replies of one request, with its usage: the prompt's in the first, the completion's by each one's length."""
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
