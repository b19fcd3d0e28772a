"""The sampler ``transformers``: a policy in this process, in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property

from lrf.local_models import Compute, LocalModel
from lrf.prompting.requests import Reply
from lrf.protocols import Capabilities, GenerationSettings
from lrf.types import JSON
from lrf_transformers.sampler_settings import TransformersSamplerSettings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as for the judge

from lrf_transformers.generation import PolicyModel
from lrf_transformers.weights import identity_of

_LINGER_S = 0.02


class TransformersSampler(LocalModel[TransformersSamplerSettings, GenerationSettings, Sequence[Reply]]):
    """Samples candidates from any Hugging Face causal language model, in batches, in a thread of this process.

    A prompt is computed once for all of its candidates. A candidate depends on its seed, not on its batch.
    """

    capabilities = Capabilities(seed=True)

    def __init__(self, settings: TransformersSamplerSettings) -> None:
        super().__init__(settings, linger_s=_LINGER_S, enough=settings.max_concurrency)

    @cached_property
    def identity(self) -> Mapping[str, JSON]:
        return identity_of(self._settings)

    @property
    def per_call(self) -> int:
        return self._settings.max_batch

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        return await self._ask(generation)

    def _load(self) -> Compute[GenerationSettings, Sequence[Reply]]:
        policy = PolicyModel(self._settings)
        return lambda generations, wanted: policy.generate(generations)
