"""Settings of the observer."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import Settings


class OpenTelemetrySettings(Settings):
    """Settings of the observer ``opentelemetry``."""

    endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Address of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; null: what the "
        "environment's OTEL_EXPORTER_OTLP_ENDPOINT says. A program that has set up OpenTelemetry itself keeps its own.",
    )
    service: str = Field(default="lrf", min_length=1, description="The service's name in traces.")
    provider: str | None = Field(
        default=None,
        description="Who serves the judges, as `gen_ai.provider.name`, such as openai; null leaves it out.",
    )
    explanations: bool = Field(
        default=False,
        description="Whether events have the judges' reasons, which may quote documents and answers.",
    )
