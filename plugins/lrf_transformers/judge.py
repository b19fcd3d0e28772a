"""The judge ``transformers``: a causal language model in this process, owned by one thread."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lrf.protocols import Capabilities
from lrf.replies import Reply, Request
from lrf.types import JSON

# Threads of torch that spin while they wait make it twenty times slower as soon as another process wants a core.
# OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lrf_transformers.model import Model
from lrf_transformers.settings import TransformersSettings
from lrf_transformers.weights import weights_identity


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    future: asyncio.Future[Reply]
    loop: asyncio.AbstractEventLoop

    def finish(self, result: Reply | Exception) -> None:
        """Hand the result over to the event loop that waits for it, if it still runs."""

        def hand_over() -> None:
            if self.future.done():
                return
            if isinstance(result, Exception):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(hand_over)


class TransformersJudge:
    """Any Hugging Face causal language model, computed in batches by a thread of this process.

    The model is loaded with the first request. Event loops may come one after another. With ``way="expected"`` the
    judge writes a short analysis, then weighs the options after it; their probabilities are the model's own,
    whatever the request's temperature.
    """

    capabilities = Capabilities(probabilities=True, structured=False, seed=True)

    def __init__(self, settings: TransformersSettings) -> None:
        self._settings = settings
        self._worker: _Worker | None = None
        self._lock = threading.Lock()

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "transformers",
            **weights_identity(s),
            "transformers": importlib.metadata.version("transformers"),
            "dtype": s.dtype,
            "context_tokens": s.context_tokens,
            "brief_tokens": s.brief_tokens,
            "analysis_tokens": s.analysis_tokens,
            "max_statements": s.max_statements,
        }

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        loop = asyncio.get_running_loop()
        job = _Job(request, loop.create_future(), loop)
        with self._lock:
            if self._worker is None:
                self._worker = _Worker(self._settings)
                self._worker.start()
            self._worker.jobs.put(job)
        return await job.future

    async def aclose(self) -> None:
        """Finish what is still wanted, and let go of the model. A later request loads it again."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.jobs.put(None)
            await asyncio.to_thread(worker.join)


class _Worker(threading.Thread):
    """The thread that owns the model. A None among its jobs ends it."""

    def __init__(self, settings: TransformersSettings) -> None:
        super().__init__(name="lrf-transformers", daemon=True)
        self._settings = settings
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        model: Model | Exception | None = None
        while (jobs := self._collect()) is not None:
            if model is None:
                model = self._load()
            for job, result in zip(jobs, self._answer(model, jobs), strict=True):
                job.finish(result)

    def _load(self) -> Model | Exception:
        try:
            return Model(self._settings)
        except Exception as e:  # a thread has nobody to raise to: whoever waits gets it
            return e

    def _answer(self, model: Model | Exception, jobs: list[_Job]) -> list[Reply | Exception]:
        if isinstance(model, Exception):
            return [model] * len(jobs)
        try:
            requests = [job.request for job in jobs]
            return model.answer(requests, lambda number: not jobs[number].future.cancelled())
        except Exception as e:
            return [e] * len(jobs)

    def _collect(self) -> list[_Job] | None:
        """The requests that wait and are still wanted, after at most ``linger_ms`` for a batch to fill up."""
        first = self.jobs.get()
        if first is None:
            return None
        jobs = [first]
        until = time.monotonic() + self._settings.linger_ms / 1000
        while True:
            enough = len(jobs) >= self._settings.max_batch
            try:
                job = self.jobs.get(timeout=0 if enough else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                self.jobs.put(None)
                break
            jobs.append(job)
        return [job for job in jobs if not job.future.cancelled()]
