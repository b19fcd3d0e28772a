"""Plans of runs that have begun: what the journal and the cache have is not planned to be paid again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

import lrf
from judge_server import JudgeServer
from lrf.api import load
from lrf.cli.main import invoke
from lrf.cli.plan import paid_and_left
from lrf.errors import RunError
from lrf.planning.plan import Plan, plan_pipeline
from lrf.stages.run_dir import RunDir
from policy_server import PolicyServer
from project import Project, sample_row

PRICES = "version: test\ncurrency: USD\nmodels: [{model: sim, input: 1, output: 4}]"


def planned(project: Project, pipeline: dict[str, Any], **more: Any) -> Plan:
    return asyncio.run(plan_pipeline(load(pipeline), run=RunDir(project.run_dir), **more))


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def priced(project: Project) -> dict[str, Any]:
    """The pipeline of all four dimensions, with prices."""
    (project.folder / "prices.yaml").write_text(PRICES)
    return project.with_evidence(prices=str(project.folder / "prices.yaml"), max_unscored=1.0)


def test_after_a_run_nothing_is_left_to_pay(
    project: Project, judge_server: JudgeServer, priced: dict[str, Any]
) -> None:
    fresh = planned(project, priced).total()
    assert (fresh.kept_calls, fresh.left_calls, fresh.left_price) == (0, fresh.calls, fresh.price)
    score = lrf.run(priced, runs=project.runs).stages["score"]
    before = files(project.runs)
    plan = planned(project, priced)
    for name, estimate in plan.dimensions.items():
        assert (estimate.kept_calls, estimate.left_calls, estimate.left_price) == (estimate.calls, 0, 0), name
    total = plan.total()
    assert total.calls == judge_server.books.calls
    assert total.price == pytest.approx(score["money"]["spent"]["USD"])
    assert total.prompt_tokens == score["prompt_tokens"]
    assert plan.texts_to_embed == 0
    assert files(project.runs) == before


def test_after_an_interrupted_run_what_is_left_is_what_the_next_one_pays(
    project: Project, judge_server: JudgeServer, priced: dict[str, Any]
) -> None:
    lrf.run({**priced, "budget": {"calls": 40}}, runs=project.runs)
    paid = judge_server.books.calls
    plan = planned(project, priced)
    total = plan.total()
    assert total.kept_calls == paid
    lrf.run(priced, runs=project.runs)
    assert plan.left_calls_by_stage() == {"score": total.left_calls}
    assert total.left_calls == pytest.approx(judge_server.books.calls - paid, rel=0.1)


def test_a_change_of_one_dimension_leaves_the_others_paid(project: Project, priced: dict[str, Any]) -> None:
    two = {**priced, "dimensions": ["helpfulness", "logicality"]}
    lrf.run(two, runs=project.runs)
    plan = planned(project, {**two, "dimensions": ["helpfulness", {"type": "logicality", "repeat": 2}]})
    left = {name: (e.kept_calls, e.left_calls) for name, e in plan.dimensions.items()}
    assert left == {"helpfulness": (15, 0), "logicality": (15, 15)}


def test_replies_of_a_cache_are_paid_too(project: Project, priced: dict[str, Any]) -> None:
    cached = {**priced, "dimensions": ["helpfulness"], "cache": str(project.folder / "cache.sqlite")}
    lrf.run({**cached, "name": "other"}, runs=project.runs)
    total = planned(project, cached).total()
    assert (total.kept_calls, total.left_calls) == (15, 0)
    assert not project.run_dir.exists()


def test_what_was_paid_is_estimated_from_samples_all_over_the_data(project: Project, priced: dict[str, Any]) -> None:
    project.write_data(12, 2)
    one = {**priced, "dimensions": ["helpfulness"]}
    del one["pairs"]
    judge = {**one["judges"]["main"], "max_concurrency": 1}
    lrf.run({**one, "judges": {"main": judge}, "budget": {"calls": 12}}, runs=project.runs)
    total = planned(project, one, priced_samples=4).total()
    assert total.calls == 24
    assert 6 <= total.kept_calls <= 18


def test_a_rescored_dimension_is_left_to_pay(project: Project, priced: dict[str, Any]) -> None:
    one = {**priced, "dimensions": ["helpfulness"]}
    lrf.run(one, runs=project.runs)
    (project.run_dir / "rescore.json").write_text('{"pending": null, "dimensions": {"helpfulness": 1}, "failed": {}}')
    total = planned(project, one).total()
    assert (total.kept_calls, total.left_calls) == (0, 15)


def test_candidates_that_are_sampled_are_paid_and_scored_as_they_are(project: Project) -> None:
    project.write_data([sample_row(0, 1), sample_row(1, 3)])
    server = PolicyServer()
    server.start()
    try:
        sampler = {"type": "openai", "model": "policy", "base_url": server.base_url, "n": 4}
        pipeline = project.pipeline(sample=sampler, pairs=None)
        lrf.run(pipeline, runs=project.runs, last="sample")
        sampled = planned(project, pipeline)
        lrf.run(pipeline, runs=project.runs)
        scored = planned(project, pipeline)
    finally:
        server.stop()
    assert sampled.left_calls_by_stage() == {"sample": 0, "score": 16}
    assert scored.left_calls_by_stage() == {"sample": 0, "score": 0}


def test_a_file_that_is_no_journal_is_refused_as_a_run_refuses_it(project: Project) -> None:
    project.run_dir.mkdir(parents=True)
    (project.run_dir / "journal.sqlite").write_bytes(b"not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(RunError, match=r"journal\.sqlite"):
        planned(project, project.pipeline())


def test_the_command_says_what_is_left(
    project: Project, priced: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    two = {**priced, "dimensions": ["helpfulness"]}
    lrf.run(two, runs=project.runs)
    file = project.folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump({**two, "dimensions": ["helpfulness", "logicality"]}))
    assert invoke(["plan", str(file), "--runs", str(project.runs)]) == 0
    out = capsys.readouterr().out
    assert "PAID ALREADY  LEFT TO PAY  LEFT, USD" in out
    plan = planned(project, {**two, "dimensions": ["helpfulness", "logicality"]})
    assert paid_and_left(plan) in out
    assert "30 calls are expected, 15 of them paid already; 15 are left to pay, about 0.0" in out
