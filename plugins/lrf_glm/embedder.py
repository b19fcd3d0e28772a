"""The embedder ``glm``: one embeddings request for each batch of texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf.http.bases import HttpEmbedder
from lrf.http.openai import embeddings_body, post_embeddings
from lrf.text.chunking import first_tokens
from lrf_glm.codes import GLM_CODES
from lrf_glm.settings import GLMEmbedderSettings

if TYPE_CHECKING:
    from lrf.protocols import EmbedKind, Vectors


class GLMEmbedder(HttpEmbedder[GLMEmbedderSettings]):
    """Embeds texts by a model of Zhipu AI or Z.ai."""

    def __init__(self, settings: GLMEmbedderSettings) -> None:
        s = settings
        identity = {"type": "glm", "max_input_tokens": s.input_limit}
        super().__init__(s, GLM_CODES, identity=identity, batch_size=s.batch_size)

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        s = self.settings
        texts = await asyncio.to_thread(lambda: [first_tokens(text, s.input_limit) for text in texts])
        body = embeddings_body(s.model, texts, s.dimensions)
        return await post_embeddings(self.client, body, len(texts))
