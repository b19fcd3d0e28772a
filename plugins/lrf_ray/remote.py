"""A judge, a sampler and an embedder whose calls are made by workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities, EmbedKind, GenerationSettings
from lrf.types import JSON
from lrf_ray.pool import Pool

if TYPE_CHECKING:
    from lrf.protocols import Vectors


class RemoteComponent:
    """What all kinds share."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def identity(self) -> Mapping[str, JSON]:
        """The component's own: what it gives doesn't depend on where it works."""
        return self._pool.description.identity

    @property
    def capabilities(self) -> Capabilities:
        return self._pool.description.capabilities or Capabilities()

    @property
    def max_concurrency(self) -> int:
        """That of all workers together."""
        return self._pool.description.max_concurrency * self._pool.workers

    @property
    def request_timeout_s(self) -> float:
        assert self._pool.description.request_timeout_s is not None
        return self._pool.description.request_timeout_s

    async def aclose(self) -> None:
        """End the workers."""
        await self._pool.aclose()


class RemoteJudge(RemoteComponent):
    """A :class:`lrf.protocols.Judge`. Requests on one document go to one worker, which keeps its beginning computed."""

    async def complete(self, request: Request) -> Reply:
        """See :class:`lrf.protocols.Judge`."""
        reply: Reply = await self._pool.call("complete", request, near=_document(request))
        return reply

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """See :class:`lrf.protocols.AnswersSeveral`."""
        replies: Sequence[Reply] = await self._pool.call("complete_several", requests, near=_document(requests[0]))
        return replies

    async def metrics(self) -> Mapping[str, JSON]:
        """See :class:`lrf.protocols.ReportsMetrics`."""
        return await self._pool.metrics()


class RemoteSampler(RemoteComponent):
    """A :class:`lrf.protocols.Sampler`. Candidates of one prompt are drawn by one worker."""

    @property
    def per_call(self) -> int:
        assert self._pool.description.per_call is not None
        return self._pool.description.per_call

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        """See :class:`lrf.protocols.Sampler`."""
        near = hashlib.blake2b(repr(generation.messages).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        replies: Sequence[Reply] = await self._pool.call("sample", generation, near=near)
        return replies


class RemoteEmbedder(RemoteComponent):
    """A :class:`lrf.protocols.Embedder`."""

    @property
    def batch_size(self) -> int:
        assert self._pool.description.batch_size is not None
        return self._pool.description.batch_size

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """See :class:`lrf.protocols.Embedder`."""
        vectors: Vectors = await self._pool.call("embed", texts, kind)
        return vectors


def _document(request: Request) -> bytes:
    """The hash of the first untrusted part of a prompt: the document, or what else comes first and is shared."""
    return next((segment.digest for segment in request.prompt if not segment.trusted), request.prompt[0].digest)
