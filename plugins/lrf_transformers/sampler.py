"""The sampler ``transformers``: the policy in this process, owned by one thread."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrf.protocols import Capabilities, Drawing
from lrf.replies import Reply
from lrf.types import JSON
from lrf_transformers.sampler_settings import TransformersSamplerSettings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as for the judge

from lrf_transformers.weights import weights_identity

if TYPE_CHECKING:
    from lrf_transformers.draw import Policy

_LINGER_S = 0.02


@dataclass(frozen=True, slots=True)
class _Job:
    drawing: Drawing
    future: asyncio.Future[Sequence[Reply]]
    loop: asyncio.AbstractEventLoop

    def finish(self, outcome: Sequence[Reply] | Exception) -> None:
        """Hand the outcome over to the event loop that waits for it, if it still runs."""

        def hand_over() -> None:
            if self.future.done():
                return
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(hand_over)


class TransformersSampler:
    """Draws candidates from any Hugging Face causal language model, in batches, by a thread of this process.

    A prompt is computed once for all of its candidates. Each candidate follows its own seed, whatever it is computed
    together with. The model is loaded with the first drawing and let go by :meth:`aclose`.
    """

    capabilities = Capabilities(seed=True)

    def __init__(self, settings: TransformersSamplerSettings) -> None:
        self._settings = settings
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "transformers",
            **weights_identity(s.weights),
            "transformers": importlib.metadata.version("transformers"),
            "dtype": s.dtype,
        }

    @property
    def per_call(self) -> int:
        return self._settings.max_batch

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def sample(self, drawing: Drawing) -> Sequence[Reply]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="lrf-sampler", daemon=True)
            self._thread.start()
        job = _Job(drawing, loop.create_future(), loop)
        self._jobs.put(job)
        return await job.future

    async def aclose(self) -> None:
        """Let go of the model, after what is being computed. A later drawing loads it again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        from lrf_transformers.draw import Policy

        policy: Policy | Exception | None = None
        while (jobs := self._collect()) is not None:
            if policy is None:
                try:
                    policy = Policy(self._settings)
                except Exception as e:  # a thread has nobody to raise to: whoever waits gets it
                    policy = e
            try:
                outcomes: Sequence[Sequence[Reply] | Exception] = (
                    [policy] * len(jobs) if isinstance(policy, Exception) else policy.draw([j.drawing for j in jobs])
                )
            except Exception as e:
                outcomes = [e] * len(jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                job.finish(outcome)

    def _collect(self) -> list[_Job] | None:
        """The drawings that wait and are still wanted, after a moment for others to join them."""
        first = self._jobs.get()
        jobs = [first]
        time.sleep(0 if first is None else _LINGER_S)
        while not self._jobs.empty():
            jobs.append(self._jobs.get())
        if None in jobs:
            return None
        return [job for job in jobs if job is not None and not job.future.cancelled()]
