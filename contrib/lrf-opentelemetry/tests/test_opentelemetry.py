"""Spans and events of a real run, in the SDK's own memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lrf_opentelemetry.observer import OpenTelemetryObserver
from lrf_opentelemetry.providers import Providers, providers_of
from lrf_opentelemetry.settings import OpenTelemetrySettings
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

import lrf
from lrf.testing import check_plugin

ROW = {
    "id": "tram",
    "context": "Seven to two.",
    "query": "How did they vote?",
    "candidates": [{"id": "a", "text": "Seven to two."}, {"id": "b", "text": "Nobody knows."}],
}


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.spans, self.records = InMemorySpanExporter(), InMemoryLogRecordExporter()
        traces, logs = TracerProvider(), LoggerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self.spans))
        logs.add_log_record_processor(SimpleLogRecordProcessor(self.records))
        self.providers = Providers(traces, logs)

    def events(self) -> list[tuple[str | None, dict[str, Any]]]:
        logs = [data.log_record for data in self.records.get_finished_logs()]
        return [(record.event_name, dict(record.attributes or {})) for record in logs]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The observers that pipelines name export here."""
    seen = Seen()
    monkeypatch.setattr("lrf_opentelemetry.observer.providers_of", lambda settings: seen.providers)
    return seen


def rate(request: lrf.Request) -> str:
    text = "".join(segment.text for segment in request.prompt)
    return "I'd rather not." if "Nobody knows" in text else "They voted so. [[8]]"


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """A run of one dimension, whose judge doesn't rate the second answer."""
    from lrf.testing import ScriptedJudge

    monkeypatch.setattr("lrf_openai.judge.OpenAIJudge", lambda _: ScriptedJudge(rate))
    (folder / "data.jsonl").write_text(json.dumps(ROW))
    judge = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    pipeline = {
        "name": "traced",
        "data": {"type": "jsonl", "path": str(folder / "data.jsonl")},
        "judges": {"main": judge},
        "dimensions": ["helpfulness"],
        "max_unscored": 1,
        "observers": [{"type": "opentelemetry", **settings}],
    }
    return lrf.run(pipeline, runs=folder / "runs").exit_code


def test_a_run_is_a_span_with_a_span_for_each_call_under_it(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, monkeypatch, provider="openai") == 0
    *calls, whole = seen.spans.get_finished_spans()
    assert whole.name == "lrf run traced"
    assert dict(whole.attributes or {})["lrf.status"] == "finished"
    assert len(calls) == 6  # a rating, and five vain tries for the other
    for span in calls:
        about = dict(span.attributes or {})
        assert span.parent is not None
        assert whole.context is not None
        assert span.parent.span_id == whole.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
        assert (about["gen_ai.operation.name"], about["gen_ai.provider.name"]) == ("chat", "openai")
        assert (about["lrf.dimension"], about["lrf.sample_id"]) == ("helpfulness", "tram")
    assert {dict(span.attributes or {})["lrf.candidate_id"] for span in calls} == {"a", "b"}


def test_each_rating_is_an_event_and_a_missing_one_has_no_value_but_a_reason(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, monkeypatch, explanations=True)
    events = {(e["lrf.candidate_id"], e["gen_ai.evaluation.name"]): e for _, e in seen.events()}
    assert {name for name, _ in seen.events()} == {"gen_ai.evaluation.result"}
    assert events["a", "reward"]["gen_ai.evaluation.score.value"] == 8.0
    assert events["a", "helpfulness"]["gen_ai.evaluation.explanation"] == "They voted so. [[8]]"
    for name in ("reward", "helpfulness"):
        assert "gen_ai.evaluation.score.value" not in events["b", name]
        assert events["b", name]["error.type"] == "no_rating"


def test_reasons_are_left_out_unless_they_are_asked_for(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, monkeypatch)
    assert not any("gen_ai.evaluation.explanation" in event for _, event in seen.events())


def test_a_call_has_its_tokens_its_cost_and_its_error(seen: Seen) -> None:
    observer = OpenTelemetryObserver(OpenTelemetrySettings())
    about = {"judge": "main", "kind": "rating", "sample_id": "s", "attempt": 0, "candidate_id": "", "dimension": ""}
    usage = lrf.Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=60)
    observer.lrf_call_finished(
        **about, seconds=0.5, error=None, message=None, model="m", usage=usage, cost=0.25, currency="EUR", waited_s=1.0
    )
    observer.lrf_call_finished(
        **about, seconds=0.5, error="timeout", message="too late", model="m", usage=lrf.Usage(calls=0), cost=None,
        currency="EUR", waited_s=0.0,
    )  # fmt: skip
    served, failed = seen.spans.get_finished_spans()
    told = dict(served.attributes or {})
    assert [told[f"gen_ai.usage.{k}_tokens"] for k in ("input", "output", "cache_read.input")] == [100, 10, 60]
    assert (told["lrf.cost"], told["lrf.currency"], told["lrf.waited_s"]) == (0.25, "EUR", 1.0)
    assert (served.end_time or 0) - (served.start_time or 0) == 500_000_000
    told = dict(failed.attributes or {})
    assert told["error.type"] == "timeout"
    assert failed.status.description == "too late"
    assert not {"gen_ai.usage.input_tokens", "lrf.cost", "lrf.dimension"} & told.keys()


def test_a_collector_that_nobody_runs_harms_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf_opentelemetry.providers.FLUSH_MS", 10)
    assert run(tmp_path, monkeypatch, endpoint="http://127.0.0.1:9") == 0


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        OpenTelemetrySettings(endpoint="collector:4318")
    assert providers_of(OpenTelemetrySettings(endpoint="http://127.0.0.1:9")).own


def test_the_plugin_registers_what_can_be_imported() -> None:
    check_plugin("lrf_opentelemetry.plugin")
