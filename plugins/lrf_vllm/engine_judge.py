"""The judge ``vllm_engine``: a model that vLLM runs on this machine, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrf.http.finish import finish_of
from lrf.prompting.questions import DECIDED_AT_ONCE
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities
from lrf.types import JSON
from lrf_vllm.engine import EngineComponent, RunningEngine, usage_of
from lrf_vllm.settings import VLLMEngineSettings
from lrf_vllm.weighing import MAX_LOGPROBS, MAX_QUESTIONS, checked_json, decide, weigh


class VLLMEngineJudge(EngineComponent[VLLMEngineSettings]):
    """Asks vLLM's async engine. The model is loaded with the first request."""

    @property
    def capabilities(self) -> Capabilities:
        s = self._settings
        return Capabilities(
            probabilities=s.expected,
            structured=True,
            seed=True,
            context_window=self._engine.window,
            calls=s.analysis + MAX_QUESTIONS,
            questions=DECIDED_AT_ONCE if s.decides else 1,
        )

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_num_seqs

    async def complete(self, request: Request) -> Reply:
        return await self._engine.run(lambda running: _EngineRequest(running, request, self._settings).reply())

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """See :class:`lrf.protocols.AnswersSeveral`."""
        return await decide(self.complete, requests)

    async def metrics(self) -> Mapping[str, JSON]:
        """The engine's metrics since it started."""

        async def read(running: RunningEngine) -> Mapping[str, JSON]:
            return running.metrics().figures()

        return await self._engine.run(read) if self._engine.started else {}


class _EngineRequest:
    """One request to a running engine."""

    def __init__(self, running: RunningEngine, request: Request, settings: VLLMEngineSettings) -> None:
        self._running, self._request, self._settings = running, request, settings
        self._prompt = running.encoder.prompt(prompt_text(request.prompt))

    async def reply(self) -> Reply:
        from vllm.sampling_params import StructuredOutputsParams

        request = self._request
        if request.reply_mode == "logprobs":
            return await weigh(request, self._write_up_to if self._settings.analysis else None, self._next_token)
        schema = StructuredOutputsParams(json=request.schema) if request.schema is not None else None
        return checked_json(self._read(await self._write(structured_outputs=schema)), request)

    async def _write(self, **params: Any) -> Any:
        r = self._request
        return await self._running.generate(
            self._prompt, max_tokens=r.max_tokens, temperature=r.temperature, seed=r.seed, **params
        )

    def _read(self, output: Any) -> Reply:
        completion = output.outputs[0]
        finish = finish_of(completion.finish_reason)
        return Reply(completion.text, finish, usage_of(output), model=self._settings.model)

    async def _write_up_to(self, stops: Sequence[str]) -> tuple[Reply, bool]:
        output = await self._write(stop=list(stops))
        return self._read(output), output.outputs[0].stop_reason in stops

    async def _next_token(self, so_far: str, labels: Sequence[str]) -> tuple[list[tuple[str, float]], Usage]:
        from vllm.sampling_params import StructuredOutputsParams

        output = await self._running.generate(
            [*self._prompt, *self._running.encoder.continuation(so_far)],
            max_tokens=1,
            temperature=0,
            logprobs=MAX_LOGPROBS,
            structured_outputs=StructuredOutputsParams(choice=list(labels)),
        )
        listed = output.outputs[0].logprobs[0].values()
        return [(token.decoded_token or "", token.logprob) for token in listed], usage_of(output)
