"""The sampler ``vllm_engine``: the policy, run by vLLM on this machine without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from lrf.http.finish import finish_of
from lrf.prompting.requests import Reply, Usage
from lrf.protocols import Capabilities, GenerationSettings
from lrf_vllm.engine import EngineComponent, RunningEngine, usage_of
from lrf_vllm.settings import VLLMSamplerSettings


class VLLMEngineSampler(EngineComponent[VLLMSamplerSettings]):
    """Samples candidates with vLLM's async engine. The policy is loaded with the first call."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(seed=True, context_window=self._engine.window)

    @property
    def per_call(self) -> int:
        return self._settings.max_num_seqs

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        return await self._engine.run(lambda running: self._sample(running, generation))

    async def _sample(self, running: RunningEngine, generation: GenerationSettings) -> list[Reply]:
        prompt = running.encoder.messages(generation.messages, generation.tools)

        async def candidate(seed: int) -> Reply:
            # Requests of one engine step share their prefix, so the prompt is computed once, as with vLLM's own `n`,
            # which would choose the seeds itself.
            output = await running.generate(
                prompt,
                max_tokens=generation.max_tokens,
                temperature=generation.temperature,
                top_p=generation.top_p,
                seed=seed,
            )
            completion = output.outputs[0]
            finish = finish_of(completion.finish_reason)
            return Reply(completion.text, finish, usage_of(output), model=self._settings.model)

        first, *others = await asyncio.gather(*(candidate(seed) for seed in generation.seeds))
        return [first, *(replace(r, usage=Usage(0, r.usage.completion_tokens)) for r in others)]
