"""Vectors of many samples in Qdrant, each sample's apart from the others'. Blocking: for use from one thread."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid5

from lrf.errors import StageError, Unscorable
from lrf_qdrant.settings import QdrantSettings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

    from lrf.protocols import Vectors

T = TypeVar("T")

Scored = tuple[int, float]
"""The number of a vector within its sample, and its similarity."""

_BATCH = 256  # vectors sent at once
_PAUSES_S = (0.5, 2.0)  # before the server is asked again


class Store:
    """One Qdrant, opened when first used.

    Within this process each sample has a collection of its own (filters are slow there). On a server all samples of
    one dimension share a collection, indexed by tenant: thousands of collections would cost it dearly.
    """

    def __init__(self, settings: QdrantSettings) -> None:
        self._settings = settings
        self._opened: QdrantClient | None = None
        self._shared: set[int] = set()
        self._dimensions: dict[UUID, int] = {}

    def add(self, tenant: UUID, vectors: Vectors) -> None:
        """Keep vectors of shape (n, dimensions) under the tenant's name."""
        client, dimensions, vectors = self._client(), vectors.shape[1], _unit(vectors)
        if self._settings.url is None:
            client.create_collection(self._own(tenant), vectors_config=_vectors(dimensions))
            self._upsert(self._own(tenant), range(len(vectors)), vectors, None)
        else:
            self._share(dimensions)
            self._dimensions[tenant] = dimensions
            ids = [str(uuid5(tenant, str(i))) for i in range(len(vectors))]
            payloads = [{"tenant": tenant.hex, "number": i} for i in range(len(vectors))]
            self._upsert(self._common(dimensions), ids, vectors, payloads)

    def search(self, tenant: UUID, queries: Vectors, top_k: int, count: int) -> list[list[int]]:
        """For each query the numbers of its ``top_k`` most similar vectors among the ``count`` that were added.

        Equal similarities (to six places) are decided by the number, so the outcome never depends on Qdrant's order.
        """
        queries = _unit(queries)
        found: list[list[int]] = [[] for _ in queries]
        open_queries, limit = list(range(len(queries))), top_k + 8
        while open_queries:
            limit = min(limit, count)
            answers = self._query(tenant, [queries[q] for q in open_queries], limit)
            still_open = []
            for q, hits in zip(open_queries, answers, strict=True):
                ranked = sorted((-round(score, 6), number) for number, score in hits)
                if len(ranked) == limit < count and ranked[-1][0] == ranked[top_k - 1][0]:
                    still_open.append(q)  # a tie across the limit: more of it may be better placed
                else:
                    found[q] = [number for _, number in ranked[:top_k]]
            open_queries, limit = still_open, limit * 4
        return found

    def drop(self, tenant: UUID) -> None:
        """Forget what :meth:`add` kept, if anything."""
        client = self._client()
        if self._settings.url is None:
            client.delete_collection(self._own(tenant))
        elif (dimensions := self._dimensions.pop(tenant, None)) is not None:
            from qdrant_client import models

            gone = models.FilterSelector(filter=_of(tenant))
            self._asked(lambda: client.delete(self._common(dimensions), points_selector=gone, wait=False))

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- within ----------------------------------------------------------------------------------------------------

    def _client(self) -> QdrantClient:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> QdrantClient:
        from qdrant_client import QdrantClient

        s = self._settings
        if s.url is not None:
            key = os.environ.get(s.api_key_env) or None
            client = QdrantClient(url=s.url, port=None, api_key=key, timeout=s.timeout_s, check_compatibility=False)
            try:
                self._asked(client.get_collections)
            except Unscorable as e:
                client.close()
                raise StageError(
                    f"no Qdrant server answers at {s.url} (`url`): {e.detail}; start it, then run again"
                ) from None
            return client
        if s.path is None:
            return QdrantClient(location=":memory:")
        try:
            client = QdrantClient(path=str(s.path))
        except RuntimeError as e:
            if "already accessed" not in str(e):
                raise
            raise StageError(
                f"{s.path} (`path`) is in use by another process, and an embedded Qdrant serves one at a time: wait "
                f'for it, give another path, use location: ":memory:", or run a Qdrant server and give its url'
            ) from None
        except OSError as e:
            raise StageError(f"{s.path} (`path`) can't hold a Qdrant: {e.strerror or e}") from None
        for collection in client.get_collections().collections:
            if re.fullmatch(re.escape(s.collection) + "-[0-9a-f]{32}", collection.name):
                client.delete_collection(collection.name)  # left by a run that was killed
        return client

    def _own(self, tenant: UUID) -> str:
        return f"{self._settings.collection}-{tenant.hex}"

    def _common(self, dimensions: int) -> str:
        return f"{self._settings.collection}-{dimensions}"

    def _share(self, dimensions: int) -> None:
        """Make sure that the collection that all samples of so many dimensions share is there, and fits."""
        if dimensions in self._shared:
            return
        from qdrant_client import models

        client, name = self._client(), self._common(dimensions)
        if not self._asked(lambda: client.collection_exists(name)):
            try:
                self._asked(lambda: client.create_collection(name, vectors_config=_vectors(dimensions)))
            except StageError:
                if not self._asked(lambda: client.collection_exists(name)):  # another process was faster
                    raise
        size = getattr(self._asked(lambda: client.get_collection(name)).config.params.vectors, "size", None)
        if size != dimensions:
            raise StageError(
                f"the collection {name} at {self._settings.url} holds vectors of {size} dimensions, the embedder's "
                f"have {dimensions}: give another `collection`"
            )
        tenant_index = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        self._asked(lambda: client.create_payload_index(name, "tenant", field_schema=tenant_index))
        self._shared.add(dimensions)

    def _upsert(
        self, name: str, ids: Sequence[int | str], vectors: Vectors, payloads: list[dict[str, Any]] | None
    ) -> None:
        from qdrant_client import models

        client = self._client()
        for i in range(0, len(ids), _BATCH):
            batch = models.Batch(
                ids=list(ids[i : i + _BATCH]),
                vectors=vectors[i : i + _BATCH].tolist(),
                payloads=payloads[i : i + _BATCH] if payloads else None,
            )
            self._asked(lambda batch=batch: client.upsert(name, points=batch, wait=True))  # type: ignore[misc]

    def _query(self, tenant: UUID, queries: Sequence[Any], limit: int) -> list[list[Scored]]:
        from qdrant_client import models

        client, server = self._client(), self._settings.url is not None
        name = self._common(len(queries[0])) if server else self._own(tenant)
        requests = [
            models.QueryRequest(
                query=query.tolist(),
                limit=limit,
                filter=_of(tenant) if server else None,
                with_payload=["number"] if server else False,
                params=models.SearchParams(exact=True) if server else None,
            )
            for query in queries
        ]
        answers = self._asked(lambda: client.query_batch_points(name, requests=requests))
        return [
            [(int((p.payload or {})["number"] if server else p.id), p.score) for p in answer.points]
            for answer in answers
        ]

    def _asked(self, ask: Callable[[], T]) -> T:
        """What Qdrant answers; asked again when a server fails for a moment.

        Raises :class:`lrf.errors.Unscorable` (transient) when the server stays away, :class:`lrf.errors.StageError`
        when it refuses.
        """
        if self._settings.url is None:
            return ask()
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        for pause_s in (*_PAUSES_S, None):
            try:
                return ask()
            except ResponseHandlingException as e:
                trouble = str(e.source) or type(e.source).__name__
            except UnexpectedResponse as e:
                words = " ".join((e.content or b"").decode("utf-8", "replace").split())[:200]
                trouble = f"status {e.status_code} {e.reason_phrase}: {words}"
                if e.status_code in (401, 403):
                    variable = self._settings.api_key_env
                    state = "is set" if os.environ.get(variable) else "is not set"
                    raise StageError(
                        f"the Qdrant server at {self._settings.url} refuses the key ({trouble}); it is read from the "
                        f"environment variable {variable}, which {state}"
                    ) from None
                if e.status_code not in (408, 429) and (e.status_code or 500) < 500:
                    raise StageError(f"the Qdrant server at {self._settings.url} refuses: {trouble}") from None
            if pause_s is not None:
                time.sleep(pause_s)
        raise Unscorable("retriever_unavailable", f"{self._settings.url}: {trouble}", transient=True)


def _unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1, so that their product is their cosine; Qdrant's local mode would do this at each query."""
    import numpy as np

    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)  # a vector of zeros stays one


def _vectors(dimensions: int) -> models.VectorParams:
    from qdrant_client import models

    return models.VectorParams(size=dimensions, distance=models.Distance.DOT)


def _of(tenant: UUID) -> models.Filter:
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=tenant.hex))])
