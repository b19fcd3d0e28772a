"""The judge ``verifier``: a sequence classifier in this process, owned by one thread."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from lrf.errors import JudgeMisconfigured, Rejected
from lrf.local_models import weights_identity
from lrf.protocols import Capabilities
from lrf.replies import Reply, Request, Usage, Verdict
from lrf.types import JSON

# Threads of torch that spin while they wait starve every other process that wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lrf_verifier.model import Classifier, Pair, Verdicts
from lrf_verifier.settings import VerifierSettings


class Verifier:
    """Gives the probability of each verdict on a statement, by its evidence. It can be asked for nothing else.

    Evidence longer than the model reads is read in windows that overlap, and the window that supports the statement
    most counts (MiniCheck, arXiv 2404.10774, section 3). What waits while a batch is computed is the next batch.
    """

    capabilities = Capabilities(probabilities=True, kinds=("verdict",))

    def __init__(self, settings: VerifierSettings) -> None:
        self._settings = settings
        self._thread: ThreadPoolExecutor | None = None
        self._classifier: Classifier | None = None
        self._waiting: list[tuple[Pair, Future[Verdicts]]] = []
        self._lock = threading.Lock()

    @property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "verifier",
            **weights_identity(s.model, s.revision),
            "transformers": importlib.metadata.version("transformers"),
            "dtype": s.dtype,
            "labels": dict(s.labels),
            "fields": [s.evidence_field, s.statement_field],
            "window_tokens": s.window_tokens,
            "overlap_tokens": s.overlap_tokens,
        }

    @property
    def max_concurrency(self) -> int:
        return self._settings.max_concurrency

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def complete(self, request: Request) -> Reply:
        pair = self._pair(request)
        future: Future[Verdicts] = Future()
        with self._lock:
            self._waiting.append((pair, future))
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="lrf-verifier")
            self._thread.submit(self._work)
        found = await asyncio.wrap_future(future)
        shares = {option: found.probabilities.get(option[2:-2], 0.0) for option in request.options}
        return Reply("", usage=Usage(prompt_tokens=found.tokens), probabilities=shares)

    async def aclose(self) -> None:
        """Let go of the model. A later request loads it again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        self._classifier = None

    def _pair(self, request: Request) -> Pair:
        expects = request.expects
        if not isinstance(expects, Verdict):
            raise Rejected(f"a verifier gives verdicts, no {expects.kind}")
        unknown = sorted(set(self._settings.labels.values()) - set(expects.labels))
        if unknown:
            raise JudgeMisconfigured(
                f"judge verifier: `labels` names the verdict {unknown[0]!r}; allowed: {', '.join(expects.labels)}"
            )
        fields = {segment.name: segment.text for segment in request.prompt}
        evidence, statement = (fields.get(f) for f in (self._settings.evidence_field, self._settings.statement_field))
        if evidence is None or statement is None:
            there = ", ".join(sorted(name for name in fields if name)) or "none"
            raise Rejected(
                f"the prompt has no fields {self._settings.evidence_field} and {self._settings.statement_field} "
                f"(its fields: {there}); set evidence_field and statement_field"
            )
        return Pair(evidence, statement, expects.labels)

    def _work(self) -> None:
        """All that waits, computed together; nothing if an earlier turn already took it."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        jobs = [(pair, future) for pair, future in waiting if future.set_running_or_notify_cancel()]
        if not jobs:
            return
        try:
            if self._classifier is None:
                self._classifier = Classifier(self._settings)
            results = self._classifier.verify([pair for pair, _ in jobs])
        except Exception as e:  # a thread has nobody to raise to: whoever waits gets it
            for _, future in jobs:
                future.set_exception(e)
            return
        for (_, future), result in zip(jobs, results, strict=True):
            if isinstance(result, Rejected):
                future.set_exception(result)
            else:
                future.set_result(result)
