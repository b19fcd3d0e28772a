"""The observer: spans and events in the form of OpenTelemetry's conventions for generative AI.

Each run is a span, each call a span under it ("chat MODEL"), each rating an event ``gen_ai.evaluation.result``. What
the conventions have no word for begins with ``lrf.``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

import lrf
from lrf import Judgement, Reward, Unscored, Usage
from lrf.types import JSON
from lrf_opentelemetry.providers import Providers, providers_of
from lrf_opentelemetry.settings import OpenTelemetrySettings

EVENT = "gen_ai.evaluation.result"


class OpenTelemetryObserver:
    """Makes the spans and events of one run.

    Parameters
    ----------
    providers: where they go; by default what the program has set up, or the settings' collector.
    """

    def __init__(self, settings: OpenTelemetrySettings, providers: Providers | None = None) -> None:
        self._settings = settings
        self._providers = providers or providers_of(settings)
        self._tracer = self._providers.traces.get_tracer("lrf", lrf.__version__)
        self._logger = self._providers.logs.get_logger("lrf", lrf.__version__)
        self._run: Span | None = None

    @lrf.hookimpl
    def lrf_run_started(self, run_dir: str, pipeline: Mapping[str, JSON]) -> None:
        about = {"lrf.run": str(pipeline.get("name")), "lrf.run_dir": run_dir}
        self._run = self._tracer.start_span(f"lrf run {pipeline.get('name')}", attributes=about)

    @lrf.hookimpl
    def lrf_call_finished(
        self,
        judge: str,
        kind: str,
        sample_id: str,
        attempt: int,
        seconds: float,
        error: str | None,
        message: str | None,
        dimension: str,
        candidate_id: str,
        model: str | None,
        usage: Usage,
        cost: float | None,
        currency: str | None,
        waited_s: float,
    ) -> None:
        ended = time.time_ns()
        about = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._settings.provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": usage.prompt_tokens if usage.told else None,
            "gen_ai.usage.output_tokens": usage.completion_tokens if usage.told else None,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens if usage.told else None,
            "error.type": error,
            "lrf.judge": judge,
            "lrf.kind": kind,
            "lrf.dimension": dimension or None,
            "lrf.sample_id": sample_id,
            "lrf.candidate_id": candidate_id or None,
            "lrf.attempt": attempt,
            "lrf.calls": usage.calls if usage.told else None,
            "lrf.cost": cost,
            "lrf.currency": currency if cost is not None else None,
            "lrf.waited_s": waited_s,
        }
        span = self._tracer.start_span(
            f"chat {model or judge}",
            context=self._context,
            kind=SpanKind.CLIENT,
            attributes=_told(about),
            start_time=ended - int(seconds * 1e9),
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, message))
        span.end(ended)

    @lrf.hookimpl
    def lrf_sample_scored(self, sample_id: str, rewards: tuple[Reward, ...]) -> None:
        for reward in rewards:
            why = reward.unscored
            self._event("reward", reward, reward.reward, why.reason if why else None, why.detail if why else None)
            for name, rating in reward.ratings.items():
                judged = reward.judgements.get(name)
                failed = isinstance(judged, Unscored)
                reasons = judged.analysis if isinstance(judged, Judgement) else judged.detail if failed else None
                self._event(name, reward, rating, judged.reason if isinstance(judged, Unscored) else None, reasons)

    @lrf.hookimpl
    def lrf_run_finished(self, summary: Mapping[str, JSON]) -> None:
        if self._run is None:
            return
        status = str(summary.get("status"))
        self._run.set_attribute("lrf.status", status)
        if status not in ("finished", "closed"):
            self._run.set_status(Status(StatusCode.ERROR, str(summary.get("message") or status)))
        self._run.end()
        self._run = None

    def close(self) -> None:
        """End what is open, and send what is held back."""
        if self._run is not None:
            self._run.end()
        self._providers.end()

    @property
    def _context(self) -> Context | None:
        """What spans and events belong to."""
        return trace.set_span_in_context(self._run) if self._run is not None else None

    def _event(self, name: str, reward: Reward, score: float | None, error: str | None, reasons: str | None) -> None:
        """The event of one rating. An answer without one has no value, which isn't a zero, but an error."""
        about = {
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.score.value": score,
            "gen_ai.evaluation.explanation": reasons if self._settings.explanations else None,
            "gen_ai.response.id": f"{reward.sample_id}/{reward.candidate_id}",
            "error.type": error,
            "lrf.sample_id": reward.sample_id,
            "lrf.candidate_id": reward.candidate_id,
        }
        now = time.time_ns()
        self._logger.emit(
            event_name=EVENT, attributes=_told(about), timestamp=now, observed_timestamp=now, context=self._context
        )


def _told(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}
