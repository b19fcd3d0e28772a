"""The judge ``openai``: one chat completion for each request, at once or by the batch API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lrf.http.bases import HttpJudge
from lrf.http.openai import OPENAI_CODES, chat_body, check_chat, first_choice, json_schema_format, post_chat, read_chat
from lrf.prompting.reasoning import without_thoughts
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.types import JSON
from lrf_openai.batch_server import KEPT_S, BatchServer, check_package
from lrf_openai.batches import Batches
from lrf_openai.label_positions import find_label, label_name
from lrf_openai.probabilities import MOST_LISTED, label_probabilities
from lrf_openai.settings import BatchSettings, OpenAIJudgeSettings


class OpenAIJudge(HttpJudge[OpenAIJudgeSettings]):
    """Asks a chat model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAIJudgeSettings) -> None:
        s = settings
        super().__init__(
            s,
            OPENAI_CODES,
            identity={"type": "openai"},
            capabilities=Capabilities(
                probabilities=s.logprobs,
                structured=s.structured,
                seed=s.seed,
                reasoning_tokens=s.reasoning_tokens,
                context_window=s.context_window,
                steady=s.batch is None,
            ),
        )
        self._batches = self._batch_api(s.batch) if s.batch else None

    @property
    def max_concurrency(self) -> int:
        batch = self.settings.batch
        return batch.max_waiting if batch else self.settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return KEPT_S if self.settings.batch else self.settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        body = self._body(request)
        if self._batches is None:
            return self._read(await post_chat(self.client, body, timeout_s=request.deadline_s), request)
        custom_id = request_id(body, request)
        value = await self._batches.reply(custom_id, lambda: self._line(custom_id, request))
        return self._read(check_chat(self.client, value), request)

    def detach(self) -> str | None:
        """See :class:`lrf.protocols.Detachable`."""
        return self._batches.detach() if self._batches else None

    async def aclose(self) -> None:
        if self._batches is not None:
            await self._batches.aclose()
        await super().aclose()

    def _batch_api(self, batch: BatchSettings) -> Batches:
        check_package()
        tag = hashlib.sha256(dump(self.identity)).hexdigest()[:32]
        return Batches(batch, BatchServer(self.settings, batch.endpoint, tag, self.client), self.client)

    def _line(self, custom_id: str, request: Request) -> bytes:
        assert self.settings.batch is not None
        line = {"custom_id": custom_id, "method": "POST", "url": self.settings.batch.endpoint}
        return dump({**line, "body": self._body(request)}) + b"\n"

    def _body(self, request: Request) -> dict[str, JSON]:
        s = self.settings
        own = request.temperature if s.temperature is None else s.temperature
        body = chat_body(
            s.model, request, max_tokens_field=s.max_tokens_field, temperature=None if own == "omit" else own
        )
        body[s.max_tokens_field] += s.reasoning_tokens
        if request.reply_mode == "logprobs":
            body |= {"logprobs": True, "top_logprobs": MOST_LISTED}
        if (schema := self._schema(request)) is not None:
            body["response_format"] = json_schema_format(request.expects.kind, schema)
        if s.seed and request.seed is not None:
            body["seed"] = request.seed
        return {**body, **s.extra_body}

    def _schema(self, request: Request) -> Mapping[str, JSON] | None:
        """The JSON schema of the reply; with log probabilities too, if the server follows schemas."""
        schema = request.expects.schema
        if request.reply_mode != "logprobs" or schema is None or not self.settings.structured:
            return request.schema
        name = label_name(schema)
        label = schema["properties"][name]
        if label.get("type") == "number":  # the options are whole numbers
            label = {**label, "type": "integer"}
        return {**schema, "properties": {**schema["properties"], name: label}}

    def _read(self, value: Any, request: Request) -> Reply:
        reply = read_chat(value)
        if request.reply_mode != "logprobs" or reply.finish in ("length", "filter"):
            return reply
        reply = without_thoughts(reply)
        position = find_label(reply.text, request, in_json=self._schema(request) is not None)
        probabilities = label_probabilities(first_choice(value), reply.text, position) if position else None
        return replace(reply, probabilities=probabilities)


def request_id(body: Mapping[str, JSON], request: Request) -> str:
    """A request's id in a batch: a hash of its body, and of the fields that tell equal bodies apart."""
    unsent = f"{request.expects.kind} {request.reply_mode} {request.attempt} {request.repeat} {request.round}"
    return hashlib.sha256(dump(body) + unsent.encode()).hexdigest()[:32]


def dump(value: Any) -> bytes:
    """Canonical JSON in UTF-8: equal values give equal bytes."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace")
