"""The judge ``overlap``: counts what a statement and its evidence have in common, in microseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property

from lrf.prompting.claims import Claim, claim_of
from lrf.prompting.labels import mark_of
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.text.languages import language_of
from lrf.text.unicode import storable
from lrf.types import JSON
from lrf_overlap.evidence import evidence_of
from lrf_overlap.features import features
from lrf_overlap.probability import VERSION, probability
from lrf_overlap.settings import OverlapSettings

_AT_ONCE, _AT_ONCE_STATED = 20_000, 1_000
"""Characters of evidence and of a statement that are read on the event loop, in some milliseconds; else in a thread."""


class Overlap:
    """Gives the probability that evidence supports a statement, by what can be counted; it answers nothing else.

    The verdict with the most support gets this probability, the one with the least the rest.
    """

    capabilities = Capabilities(probabilities=True, kinds=("verdict",))
    max_concurrency = 64
    request_timeout_s = 60.0

    def __init__(self, settings: OverlapSettings) -> None:
        self._settings = settings

    @cached_property
    def identity(self) -> Mapping[str, JSON]:
        return {"type": "overlap", **self._settings.identity_fields(), "version": VERSION}

    async def complete(self, request: Request) -> Reply:
        claim = claim_of(request, self._settings.evidence_field, self._settings.statement_field)
        long = len(claim.evidence) > _AT_ONCE or len(claim.statement) > _AT_ONCE_STATED
        supported = await asyncio.to_thread(_support, claim) if long else _support(claim)
        most, least = (choose(claim.supports, key=lambda label: claim.supports[label]) for choose in (max, min))
        probabilities = dict.fromkeys(request.options, 0.0)
        probabilities[mark_of(least)] = 1.0 - supported
        probabilities[mark_of(most)] = supported
        return Reply("", probabilities=probabilities)

    async def aclose(self) -> None:
        return None


def _support(claim: Claim) -> float:
    statement = storable(claim.statement)
    return probability(features(evidence_of(storable(claim.evidence)), statement), language_of(statement))
