"""The embedder ``openai``: one embeddings request a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrf.chunking import first_tokens
from lrf.http import HttpClient
from lrf.openai_wire import OPENAI_CODES, embeddings_body, read_embeddings
from lrf.types import JSON
from lrf_openai.settings import OpenAIEmbedderSettings

if TYPE_CHECKING:
    from lrf.protocols import EmbedKind, Vectors


class OpenAIEmbedder:
    """Embeds texts by a model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAIEmbedderSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings, OPENAI_CODES)

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "openai",
            "model": s.model,
            "dimensions": s.dimensions,
            "max_input_tokens": s.max_input_tokens,
        }

    @property
    def batch_size(self) -> int:
        return self._settings.batch_size

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        s = self._settings
        limit = s.max_input_tokens
        if limit is not None:
            texts = await asyncio.to_thread(lambda: [first_tokens(text, limit) for text in texts])
        body = embeddings_body(s.model, texts, s.dimensions)
        if s.encoding_format != "float":
            body["encoding_format"] = s.encoding_format
        return read_embeddings(await self._client.post("/embeddings", body), len(texts))

    async def aclose(self) -> None:
        await self._client.aclose()
