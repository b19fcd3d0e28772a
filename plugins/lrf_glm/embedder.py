"""The embedder ``glm``: one embeddings request a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrf.chunking import first_tokens
from lrf.http import HttpClient
from lrf.openai_wire import embeddings_body, read_embeddings
from lrf.types import JSON
from lrf_glm.codes import GLM_CODES
from lrf_glm.settings import GLMEmbedderSettings

if TYPE_CHECKING:
    from lrf.protocols import EmbedKind, Vectors


class GLMEmbedder:
    """Embeds texts by a model of Zhipu AI or Z.ai."""

    def __init__(self, settings: GLMEmbedderSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings, GLM_CODES)

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {"type": "glm", "model": s.model, "dimensions": s.dimensions, "max_input_tokens": s.input_limit}

    @property
    def batch_size(self) -> int:
        return self._settings.batch_size

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        s = self._settings
        texts = await asyncio.to_thread(lambda: [first_tokens(text, s.input_limit) for text in texts])
        body = embeddings_body(s.model, texts, s.dimensions)
        return read_embeddings(await self._client.post("/embeddings", body), len(texts))

    async def aclose(self) -> None:
        await self._client.aclose()
