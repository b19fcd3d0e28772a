"""The hooks of a run's life, as a plugin of a third party sees them in a real run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.plugin.catalog import load_catalog
from project import Project

PLUGIN = """
from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec

calls = []


@hookimpl
def lrf_register_judges():
    yield ComponentSpec("moody", "watching:Moody", "watching:MoodySettings", "Rates what it likes")


@hookimpl
def lrf_register_observers():
    yield ComponentSpec("counting", "watching:Counting", "watching:CountingSettings", "Counts")


@hookimpl
def lrf_run_started(run_dir, pipeline):
    calls.append(("lrf_run_started", dict(run_dir=run_dir, pipeline=pipeline)))


@hookimpl
def lrf_call_finished(judge, kind, sample_id, attempt, seconds, error):
    calls.append(("lrf_call_finished", dict(judge=judge, kind=kind, sample_id=sample_id, attempt=attempt, error=error)))


counted = []


class Counting:
    def __init__(self, settings):
        self.settings = settings

    @hookimpl
    def lrf_run_started(self, run_dir):
        counted.append(("started", self.settings.label))

    @hookimpl
    def lrf_call_finished(self, dimension, candidate_id, model, usage, cost, currency, waited_s, message):
        told = (dimension, candidate_id, usage.prompt_tokens, usage.cached_tokens, cost, currency)
        counted.append((*told, message and message[-2:]))

    def close(self):
        counted.append("closed")


@hookimpl
def lrf_sample_scored(sample_id, rewards):
    calls.append(("lrf_sample_scored", dict(sample_id=sample_id, rewards=rewards)))


@hookimpl
def lrf_component_failed(component, unscored, sample_id, candidate_id):
    calls.append(
        (
            "lrf_component_failed",
            dict(component=component, unscored=unscored, sample_id=sample_id, candidate_id=candidate_id),
        )
    )


@hookimpl
def lrf_run_finished(run_dir, summary):
    calls.append(("lrf_run_finished", dict(run_dir=run_dir, summary=summary)))


def __getattr__(name):
    if name == "Moody":
        from lrf.testing import ScriptedJudge

        def reply(request):
            text = "".join(segment.text for segment in request.prompt)
            return "I'd rather not." if "Nobody knows" in text else "Good. [[8]]"

        return lambda settings: ScriptedJudge(reply)
    if name == "CountingSettings":
        from lrf import Settings

        return type("CountingSettings", (Settings,), {"__annotations__": {"label": str}})
    if name == "MoodySettings":
        from lrf import Settings

        return type("MoodySettings", (Settings,), {})
    raise AttributeError(name)
"""


@pytest.fixture
def watching(distribute: Any) -> Iterator[ModuleType]:
    """The plugin, installed and loaded."""
    distribute("watching", entry_points={"watching": "watching"}, modules={"watching": PLUGIN})
    load_catalog.cache_clear()
    import watching  # type: ignore[import-not-found]

    yield watching
    load_catalog.cache_clear()


def test_a_plugin_is_called_at_each_event_of_a_run(watching: ModuleType, tmp_path: Path) -> None:
    candidates = [{"id": "a", "text": "Seven to two."}, {"id": "b", "text": "Nobody knows."}]
    row = {"id": "tram", "context": "Seven to two.", "query": "How did they vote?", "candidates": candidates}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row))
    pipeline = {
        "name": "watched",
        "data": {"type": "jsonl", "path": str(tmp_path / "samples.jsonl")},
        "judges": {"main": "moody"},
        "dimensions": ["helpfulness"],
        "max_unscored": 1,
    }
    summary = lrf.run(pipeline, runs=tmp_path / "runs")
    told = watching.calls
    assert summary.exit_code == 0

    name, started = told[0]
    assert name == "lrf_run_started"
    assert started["run_dir"] == str(summary.run_dir)
    assert started["pipeline"]["name"] == "watched"

    calls = [arguments for name, arguments in told if name == "lrf_call_finished"]
    assert {(c["judge"], c["kind"], c["sample_id"], c["error"]) for c in calls} == {("main", "rating", "tram", None)}
    assert sorted(c["attempt"] for c in calls) == [0, 0, 1, 2, 3, 4]  # one rating, and five vain tries for the other

    (failed,) = [arguments for name, arguments in told if name == "lrf_component_failed"]
    assert (failed["component"], failed["sample_id"], failed["candidate_id"]) == ("helpfulness", "tram", "b")
    assert failed["unscored"].reason == "no_rating"

    (scored,) = [arguments for name, arguments in told if name == "lrf_sample_scored"]
    assert [r.reward for r in scored["rewards"]] == [8.0, None]

    name, finished = told[-1]
    assert name == "lrf_run_finished"
    assert finished["summary"]["status"] == "finished"


def test_an_observer_that_the_pipeline_names_hears_what_calls_were_for_and_what_they_took(
    watching: ModuleType, project: Project, judge_server: JudgeServer
) -> None:
    judge_server.fault("503")
    project.write_data(1, candidates=1)
    (project.folder / "prices.yaml").write_text(
        "{version: v1, currency: EUR, models: [{model: sim, input: 1, output: 2}]}"
    )
    observers = [{"type": "counting", "label": "mine"}]
    pipeline = project.write(
        project.pipeline(dimensions=["helpfulness"], pairs=None, prices="prices.yaml", observers=observers)
    )
    assert lrf.run(pipeline, runs=project.runs).exit_code == 0
    started, failed, served, last = watching.counted
    assert (started, last) == (("started", "mine"), "closed")
    assert failed == ("helpfulness", "c0", 0, 0, None, "EUR", "no")
    dimension, candidate, tokens, cached, cost, currency, message = served
    assert (dimension, candidate, cached, currency, message) == ("helpfulness", "c0", 0, "EUR", None)
    assert cost is not None
    assert 0 < tokens < cost * 1e6 < tokens * 2
    pipeline.write_text(pipeline.read_text().replace("label", "lable"))
    with pytest.raises(lrf.ConfigError, match=r"observers\[0\].lable: unknown key; allowed: type, label"):
        lrf.run(pipeline, runs=project.runs)
