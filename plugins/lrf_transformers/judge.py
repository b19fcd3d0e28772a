"""The judge ``transformers``: a causal language model in this process, owned by one thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from lrf.local_models import Compute, LocalModel
from lrf.prompting.questions import DECIDED_AT_ONCE, as_decision, decided
from lrf.prompting.requests import Reply, Request, Usage
from lrf.protocols import Capabilities
from lrf.types import JSON

# Spinning OpenMP threads make torch up to twenty times slower if another process needs a core. OpenMP reads this when
# torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lrf_transformers.model import JudgeModel
from lrf_transformers.settings import TransformersSettings
from lrf_transformers.weights import identity_of


class TransformersJudge(LocalModel[TransformersSettings, Request, Reply]):
    """Any Hugging Face causal language model, computed in batches by a thread of this process.

    With ``reply_mode="logprobs"`` the judge writes a short analysis, then scores the options after it. Their
    probabilities are the model's own, whatever the request's temperature.
    """

    def __init__(self, settings: TransformersSettings) -> None:
        super().__init__(settings, linger_s=settings.linger_ms / 1000, enough=settings.max_batch)

        questions = DECIDED_AT_ONCE if settings.decides else 1
        self.capabilities = Capabilities(probabilities=True, structured=False, seed=True, questions=questions)

    @cached_property
    def identity(self) -> Mapping[str, JSON]:
        return identity_of(self._settings)

    async def complete(self, request: Request) -> Reply:
        return await self._ask(request)

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """See :class:`lrf.protocols.AnswersSeveral`. What a question shares with others counts in the first."""
        replies = decided(await asyncio.gather(*(self._ask(as_decision(request)) for request in requests)))
        first, *others = replies
        return [first, *(replace(reply, usage=_without_shared(reply.usage)) for reply in others)]

    def _load(self) -> Compute[Request, Reply]:
        return JudgeModel(self._settings).answer


def _without_shared(usage: Usage) -> Usage:
    """The usage of a reply that came with another one's call: what was cached was computed there."""
    return Usage(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens, calls=0)
