"""Where spans and events go: to what the program has set up, or to a collector of the observer's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from lrf_opentelemetry.settings import OpenTelemetrySettings

FLUSH_MS = 3_000


@dataclass(frozen=True)
class Providers:
    """``own``: whether they end with the observer."""

    traces: Any
    logs: Any
    own: bool = False

    def end(self) -> None:
        """Send what is held back."""
        ends: list[Callable[[], object]] = []
        for provider in (self.traces, self.logs):
            ends.append(lambda provider=provider: provider.force_flush(FLUSH_MS))  # type: ignore[misc]
            if self.own:
                ends.append(provider.shutdown)
        for end in ends:
            end()


def providers_of(settings: OpenTelemetrySettings) -> Providers:
    """The program's own providers where it has set them up, else ones that send to the collector."""
    traces, logs = trace.get_tracer_provider(), _logs.get_logger_provider()
    if isinstance(traces, TracerProvider) and isinstance(logs, LoggerProvider):
        return Providers(traces, logs)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    base = settings.endpoint.rstrip("/") if settings.endpoint else None
    resource = Resource.create({"service.name": settings.service})
    own_traces, own_logs = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    own_traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=base and f"{base}/v1/traces")))
    own_logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=base and f"{base}/v1/logs")))
    return Providers(own_traces, own_logs, own=True)
