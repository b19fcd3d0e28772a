"""The embedder ``sentence-transformers``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf.errors import JudgeMisconfiguredError
from lrf.local_models import weights_identity
from lrf.protocols import EmbedKind
from lrf.types import JSON
from lrf_sentence_transformers.settings import SentenceTransformersSettings

if TYPE_CHECKING:
    from lrf.protocols import Vectors


class SentenceTransformersEmbedder:
    """Vectors of shape (n, dimensions), float32. Computes in its own thread; the first call loads the model."""

    max_concurrency = 1

    def __init__(self, settings: SentenceTransformersSettings) -> None:
        self._settings = settings
        self._model: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-sentence-transformers")

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {"type": "sentence-transformers", **s.identity_fields(), **weights_identity(s.model, s.revision)}

    @property
    def batch_size(self) -> int:
        return self._settings.batch_size

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts), kind)

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._model = None

    def _embed(self, texts: list[str], kind: EmbedKind) -> Vectors:
        s = self._settings
        if self._model is None:
            self._model = self._load()
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = encode(
            texts,
            prompt=s.query_prompt if kind == "query" else s.document_prompt,
            batch_size=s.batch_size,
            show_progress_bar=False,
            normalize_embeddings=s.normalise,
        )
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1 if texts else 0)

    def _load(self) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        s = self._settings
        if s.threads is not None:
            torch.set_num_threads(s.threads)
        path = Path(s.model).expanduser()
        try:
            model = SentenceTransformer(
                str(path) if path.exists() else s.model,
                device=s.device,
                revision=s.revision,
                trust_remote_code=s.trust_remote_code,
                truncate_dim=s.dimensions,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # transformers, the hub and torch each raise their own
            raise JudgeMisconfiguredError(
                f"embedder sentence-transformers can't load model {s.model!r}: {error}"
            ) from error
        if s.max_tokens is not None:
            model.max_seq_length = s.max_tokens
        return model
