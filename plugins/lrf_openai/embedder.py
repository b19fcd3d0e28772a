"""The embedder ``openai``: one embeddings request for each batch of texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf.http.bases import HttpEmbedder
from lrf.http.openai import OPENAI_CODES, embeddings_body, post_embeddings
from lrf.text.chunking import first_tokens
from lrf_openai.settings import OpenAIEmbedderSettings

if TYPE_CHECKING:
    from lrf.protocols import EmbedKind, Vectors


class OpenAIEmbedder(HttpEmbedder[OpenAIEmbedderSettings]):
    """Embeds texts by a model behind OpenAI's API, or a server compatible with it."""

    def __init__(self, settings: OpenAIEmbedderSettings) -> None:
        s = settings
        super().__init__(s, OPENAI_CODES, identity={"type": "openai"}, batch_size=s.batch_size)

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        s = self.settings
        limit = s.max_input_tokens
        if limit is not None:
            texts = await asyncio.to_thread(lambda: [first_tokens(text, limit) for text in texts])
        body = embeddings_body(s.model, texts, s.dimensions)
        if s.encoding_format != "float":
            body["encoding_format"] = s.encoding_format
        return await post_embeddings(self.client, body, len(texts))
