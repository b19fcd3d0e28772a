"""What a pipeline will ask for, told before it asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.api import load
from lrf.planning.plan import Plan, plan_pipeline
from project import Project, sample_row


def plan_of(pipeline: dict[str, Any], **more: Any) -> Plan:
    return asyncio.run(plan_pipeline(load(pipeline), **more))


def test_a_plan_asks_nobody_and_writes_nothing(project: Project, judge_server: JudgeServer) -> None:
    before = sorted(project.folder.rglob("*"))
    plan = plan_of(project.with_evidence())
    assert (plan.samples, plan.candidates, plan.bad_rows) == (3, 15, 0)
    assert judge_server.books.calls == judge_server.books.embedded.total() == 0
    assert sorted(project.folder.rglob("*")) == before


def test_planned_calls_are_the_calls_of_the_run(project: Project, judge_server: JudgeServer) -> None:
    pipeline = project.with_evidence(dimensions=["helpfulness", "logicality", "completeness"])
    plan = plan_of(pipeline)
    summary = lrf.run(pipeline, runs=project.runs)
    by_dimension = summary.stages["score"]["by_dimension"]
    assert {name: e.calls for name, e in plan.dimensions.items()} == {
        name: line["calls"] for name, line in by_dimension.items()
    }
    assert plan.total().calls == judge_server.books.calls


@pytest.mark.parametrize("settings", [{}, {"structured": True}])
def test_statements_are_counted_by_the_sentences_of_the_answers(project: Project, settings: dict[str, Any]) -> None:
    pipeline = project.with_evidence(dimensions=["faithfulness"])
    pipeline["judges"]["main"].update(settings)
    plan = plan_of(pipeline)
    assert plan.statements == 30  # two sentences in each of fifteen answers, all different
    # one call for the statements of each answer; of its two sentences one stands in all answers of the sample
    assert plan.dimensions["faithfulness"].calls == 15 + 15 + 3


@pytest.mark.parametrize("settings", [{}, {"structured": True}])
def test_every_question_is_planned_once_in_every_reply_mode(project: Project, settings: dict[str, Any]) -> None:
    pipeline = project.pipeline()
    pipeline["judges"]["main"].update(settings)
    assert plan_of(pipeline).total().calls == 30


def test_bad_rows_are_counted_and_named_by_nobody_yet(project: Project) -> None:
    project.write_data([sample_row(0), "{", sample_row(1)])
    plan = plan_of(project.pipeline())
    assert (plan.samples, plan.bad_rows) == (2, 1)


def test_a_plan_without_scoring_has_no_calls(project: Project) -> None:
    pairs = {"type": "contrast", "strong": "a", "weak": "b"}
    plan = plan_of(project.pipeline(dimensions=None, judges=None, pairs=pairs))
    assert plan.total().calls == 0
    assert plan.samples == 3
