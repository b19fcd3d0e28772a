"""An embedder that needs no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrf.protocols import EmbedKind
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.protocols import Vectors

_WORDS = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


class HashEmbedder:
    """A :class:`lrf.protocols.Embedder` by words: texts that share words are near each other.

    Each word (each character, in Chinese) adds 1 in a dimension that its hash names; vectors have length 1. The
    same text gets the same vector on every machine. Good for tests; it knows nothing of meaning.
    """

    def __init__(self, dimensions: int = 256, *, batch_size: int = 64, max_concurrency: int = 4) -> None:
        self._dimensions = dimensions
        self._batch_size = batch_size
        self._max_concurrency = max_concurrency
        self.batches: list[tuple[str, ...]] = []
        self.closed = False

    @property
    def identity(self) -> Mapping[str, JSON]:
        return {"type": "hash", "dimensions": self._dimensions}

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def max_concurrency(self) -> int:
        return self._max_concurrency

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions). A text without a word has 1 in the first dimension."""
        self.batches.append(tuple(texts))
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORDS.findall(text.casefold()):
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                vectors[row, int.from_bytes(digest) % self._dimensions] += 1
            if not vectors[row].any():
                vectors[row, 0] = 1
        lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / lengths

    async def aclose(self) -> None:
        self.closed = True
