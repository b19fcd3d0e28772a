"""Vectors of many samples in Qdrant, kept apart by sample. Blocking: for use from one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid5

from lrf.errors import Reason, StageError, UnscorableError
from lrf_retrieval.qdrant.client import asked, open_client
from lrf_retrieval.qdrant.spaces import Space
from lrf_retrieval.settings import QdrantSettings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

T = TypeVar("T")

Scored = tuple[int, float]
"""The number of a vector within its sample, and its similarity."""

_BATCH = 64  # vectors or queries in one request: converting more blocks all other threads
_FORGOTTEN_S = 7 * 86_400  # older vectors were left by a run that was killed


class Collections:
    """One Qdrant, opened when first used.

    In a folder each sample has its own collection, since filters are slow there. On a server all samples share
    one collection for each kind of vector, indexed by tenant, since thousands of collections are slow.
    """

    def __init__(self, settings: QdrantSettings) -> None:
        self._settings = settings
        self._opened: QdrantClient | None = None
        self._ready: set[str] = set()
        self._sizes: dict[UUID, dict[str, int]] = {}

    def add(self, tenant: UUID, space: Space) -> None:
        """Keep vectors under the tenant's name, numbered from 0."""
        name = self._name(tenant, space.suffix)
        if self._settings.url is None:
            self._client().create_collection(name, **space.config())
        else:
            self._share(name, space)
        self._sizes.setdefault(tenant, {})[name] = len(space)
        self._upsert(name, tenant, space)

    def search(self, tenant: UUID, queries: Space, top_k: int) -> list[list[int]]:
        """For each query the numbers of its ``top_k`` most similar vectors, best first.

        Equal similarities (to six places) are decided by the number, so the outcome never depends on Qdrant's order.
        """
        rankings: list[list[int]] = [[] for _ in range(len(queries))]
        count = self._sizes[tenant][self._name(tenant, queries.suffix)]
        top_k = min(top_k, count)
        open_queries, limit = list(range(len(queries))), top_k + 8
        while open_queries:
            limit = min(limit, count)
            answers = self._query(tenant, queries, open_queries, limit)
            unresolved = []
            for q, hits in zip(open_queries, answers, strict=True):
                if queries.full and len(hits) < limit:
                    lost = f"vectors are gone from {self._name(tenant, queries.suffix)}"
                    raise UnscorableError(Reason.RETRIEVER_INCOMPLETE, lost, transient=True)
                ranked = sorted((-round(score, 6), number) for number, score in hits)
                if len(ranked) == limit < count and ranked[-1][0] == ranked[top_k - 1][0]:
                    unresolved.append(q)  # a tie at the limit: others of it may rank higher
                else:
                    rankings[q] = [number for _, number in ranked[:top_k]]
            open_queries, limit = unresolved, limit * 4
        return rankings

    def drop(self, tenant: UUID) -> None:
        """Delete what :meth:`add` kept, if anything. A server that can't be reached deletes it after a week."""
        for name in self._sizes.pop(tenant, {}):
            with suppress(UnscorableError):  # everything was answered already: no reason to stop a run
                self._drop(name, tenant)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- within ----------------------------------------------------------------------------------------------------

    def _client(self) -> QdrantClient:
        if self._opened is None:
            self._opened = open_client(self._settings)
        return self._opened

    def _asked(self, ask: Callable[[], T]) -> T:
        return asked(self._settings, ask)

    def _name(self, tenant: UUID, suffix: str) -> str:
        return f"{self._settings.collection}-{tenant.hex if self._settings.url is None else suffix}"

    def _share(self, name: str, space: Space) -> None:
        """Make sure that the shared collection exists and fits, and delete what killed runs left in it."""
        if name in self._ready:
            return
        from qdrant_client import models

        client = self._client()
        if not self._asked(lambda: client.collection_exists(name)):
            try:
                self._asked(lambda: client.create_collection(name, **space.config()))
            except StageError:
                if not self._asked(lambda: client.collection_exists(name)):  # another process made it
                    raise
        wrong = space.misfit(self._asked(lambda: client.get_collection(name)).config.params)
        if wrong:
            raise StageError(
                f"the collection {name} at {self._settings.url} {wrong}: give another `collection`, or delete that one"
            )
        tenant_index = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        self._asked(lambda: client.create_payload_index(name, "tenant", field_schema=tenant_index))
        self._asked(lambda: client.create_payload_index(name, "written", field_schema=models.PayloadSchemaType.INTEGER))
        old = models.FieldCondition(key="written", range=models.Range(lt=int(time.time()) - _FORGOTTEN_S))
        left = models.FilterSelector(filter=models.Filter(must=[old]))
        self._asked(lambda: client.delete(name, points_selector=left, wait=False))
        self._ready.add(name)

    def _drop(self, name: str, tenant: UUID) -> None:
        client = self._client()
        if self._settings.url is None:
            client.delete_collection(name)
            return
        from qdrant_client import models

        gone = models.FilterSelector(filter=_of(tenant))
        self._asked(lambda: client.delete(name, points_selector=gone, wait=False))

    def _upsert(self, name: str, tenant: UUID, space: Space) -> None:
        from qdrant_client import models

        client, server, now = self._client(), self._settings.url is not None, int(time.time())
        for first in range(0, len(space), _BATCH):
            numbers = range(first, min(first + _BATCH, len(space)))
            batch = models.Batch(
                ids=[str(uuid5(tenant, str(i))) for i in numbers] if server else list(numbers),
                vectors=space.points(numbers.start, numbers.stop),
                payloads=[{"tenant": tenant.hex, "number": i, "written": now} for i in numbers] if server else None,
            )
            self._asked(lambda batch=batch: client.upsert(name, points=batch, wait=True))  # type: ignore[misc]

    def _query(self, tenant: UUID, queries: Space, which: Sequence[int], limit: int) -> list[list[Scored]]:
        from qdrant_client import models

        client, server = self._client(), self._settings.url is not None
        name = self._name(tenant, queries.suffix)
        requests = [
            models.QueryRequest(
                **queries.query(number),
                limit=limit,
                filter=_of(tenant) if server else None,
                with_payload=["number"] if server else False,
                params=models.SearchParams(exact=True) if server else None,
            )
            for number in which
        ]
        answers = []
        for first in range(0, len(requests), _BATCH):
            batch = requests[first : first + _BATCH]
            answers += self._asked(lambda batch=batch: client.query_batch_points(name, requests=batch))  # type: ignore[misc]
        return [
            [(int((p.payload or {})["number"] if server else p.id), p.score) for p in answer.points]
            for answer in answers
        ]


def _of(tenant: UUID) -> models.Filter:
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchValue(value=tenant.hex))])
