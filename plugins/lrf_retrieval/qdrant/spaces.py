"""The two kinds of collection: dense vectors of an embedder, and sparse ones of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lrf_retrieval.bm25 import Sparse
from lrf_retrieval.vectors import unit

if TYPE_CHECKING:
    from qdrant_client import models

    from lrf.protocols import Vectors


class Space(Protocol):
    """The vectors of a collection. ``suffix`` ends its name; ``full``: every search fills its limit."""

    @property
    def suffix(self) -> str: ...

    @property
    def full(self) -> bool: ...

    def __len__(self) -> int: ...

    def config(self) -> dict[str, Any]:
        """The arguments of ``create_collection``."""
        ...

    def misfit(self, params: models.CollectionParams) -> str | None:
        """How an existing collection differs from this kind of vectors; None if it doesn't."""
        ...

    def points(self, first: int, stop: int) -> Any:
        """The vectors from one number up to another, as an upsert takes them."""
        ...

    def query(self, number: int) -> dict[str, Any]:
        """The vector of that number, as a query takes it."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """Vectors of shape (n, dimensions), each of length 1."""

    vectors: Vectors
    full: bool = True

    @property
    def suffix(self) -> str:
        return str(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.vectors)

    def config(self) -> dict[str, Any]:
        from qdrant_client import models

        size = self.vectors.shape[1]
        return {"vectors_config": models.VectorParams(size=size, distance=models.Distance.DOT)}

    def misfit(self, params: models.CollectionParams) -> str | None:
        size, mine = getattr(params.vectors, "size", None), self.vectors.shape[1]
        return None if size == mine else f"holds vectors of {size} dimensions, the embedder's have {mine}"

    def points(self, first: int, stop: int) -> Any:
        return self.vectors[first:stop].tolist()

    def query(self, number: int) -> dict[str, Any]:
        return {"query": self.vectors[number].tolist()}


@dataclass(frozen=True, slots=True)
class Lexical:
    """Weights of terms."""

    vectors: Sequence[Sparse]
    full: bool = False
    suffix: str = "lexical"

    def __len__(self) -> int:
        return len(self.vectors)

    def config(self) -> dict[str, Any]:
        from qdrant_client import models

        return {"vectors_config": {}, "sparse_vectors_config": {"terms": models.SparseVectorParams()}}

    def misfit(self, params: models.CollectionParams) -> str | None:
        return None if "terms" in (params.sparse_vectors or {}) else "holds no sparse vectors named terms"

    def points(self, first: int, stop: int) -> Any:
        return {"terms": [_sparse(vector) for vector in self.vectors[first:stop]]}

    def query(self, number: int) -> dict[str, Any]:
        return {"query": _sparse(self.vectors[number]), "using": "terms"}


def dense(vectors: Vectors) -> Dense:
    """The vectors at length 1, so that their product is their cosine (local mode would normalise at each query)."""
    return Dense(unit(vectors))


def _sparse(vector: Sparse) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector(indices=vector[0], values=vector[1])
