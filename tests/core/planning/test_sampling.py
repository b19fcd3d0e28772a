"""What `lrf plan` says of candidates that are still to be sampled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import lrf
from lrf.cli.main import cli
from lrf.config import parse_pipeline
from lrf.planning.plan import Plan, plan_pipeline
from lrf.plugin.catalog import load_catalog
from policy_server import PolicyServer
from project import Project, sample_row

SAMPLING = "(sampling)"


@pytest.fixture
def rows(project: Project) -> None:
    """One sample without candidates, one with three of four, one with enough."""
    bare = {**sample_row(0), "candidates": None}
    project.write_data([bare, sample_row(1, 3), sample_row(2, 5)])


def planned(project: Project, *, samples: int = 200, sampler: dict[str, Any] | None = None, **more: Any) -> Plan:
    given = {"type": "openai", "model": "policy", "base_url": "http://127.0.0.1:1/v1", "n": 4, **(sampler or {})}
    checked = parse_pipeline(project.pipeline(sample=given, **more), load_catalog())
    return asyncio.run(plan_pipeline(checked, priced_samples=samples))


@pytest.mark.usefixtures("rows")
def test_a_plan_counts_what_is_missing_and_what_scoring_it_takes(project: Project) -> None:
    plan = planned(project)
    assert (plan.candidates, plan.to_sample) == (4 + 4 + 5, 4 + 1)
    assert list(plan.dimensions) == [SAMPLING, "helpfulness", "logicality"]
    assert plan.dimensions[SAMPLING].calls == plan.dimensions[SAMPLING].bound_calls == 5
    assert plan.dimensions["helpfulness"].calls == 13
    assert not plan.bound_holds
    alone = planned(project, dimensions=None, pairs=None)
    assert alone.bound_holds
    assert alone.dimensions[SAMPLING].calls == 5


@pytest.mark.usefixtures("rows")
def test_a_prompt_of_several_candidates_a_request_is_read_once(project: Project) -> None:
    one, four = (planned(project, sampler={"choices": n}).dimensions[SAMPLING] for n in (1, 4))
    assert four.prompt_tokens < one.prompt_tokens / 2
    assert one.shared_tokens > 0
    assert four.shared_tokens == 0
    assert four.reply_tokens == one.reply_tokens


@pytest.mark.usefixtures("rows")
def test_what_was_not_gone_through_is_scaled(project: Project) -> None:
    plan = planned(project, samples=1)
    assert plan.dimensions[SAMPLING].calls == 12
    assert plan.to_sample == 5


@pytest.mark.usefixtures("rows")
def test_the_sampler_has_a_price_of_its_own(project: Project) -> None:
    prices = project.folder / "prices.yaml"
    models = [{"model": m, "input": 1, "output": 2} for m in ("policy", "sim")]
    prices.write_text(yaml.safe_dump({"version": "1", "currency": "EUR", "models": models}))
    plan = planned(project, prices=str(prices))
    estimate = plan.dimensions[SAMPLING]
    assert estimate.price == pytest.approx((estimate.prompt_tokens + 2 * estimate.reply_tokens) / 1e6)
    assert estimate.bound_price is not None
    assert estimate.bound_price > estimate.price
    assert plan.currency == "EUR"
    assert SAMPLING in planned(project).unpriced


@pytest.mark.usefixtures("rows")
def test_a_run_stays_below_the_most_of_its_plan(project: Project) -> None:
    server = PolicyServer()
    server.start()
    try:
        sampler = {"base_url": server.base_url, "max_tokens": 40}
        most = planned(project, sampler=sampler).dimensions[SAMPLING]
        given = {"type": "openai", "model": "policy", "n": 4, **sampler}
        took = lrf.run(project.pipeline(sample=given), runs=project.runs, last="sample").stages["sample"]
    finally:
        server.stop()
    assert took["calls"] == most.bound_calls
    assert took["prompt_tokens"] <= most.bound_prompt_tokens
    assert took["completion_tokens"] <= most.bound_reply_tokens


def test_tools_and_their_calls_are_read_and_paid_with_the_prompt(project: Project) -> None:
    row = {key: value for key, value in sample_row(0).items() if key != "candidates"}
    call = {"name": "look_up", "arguments": {"contract": 100, "why": "the fee is asked for " * 20}}
    turns = [
        {"role": "user", "content": "Which fee?"},
        {"role": "assistant", "tool_calls": [{"id": "1", **call}]},
        {"role": "tool", "tool_call_id": "1", "content": "A fee of 100 euros."},
    ]
    tools = [{"type": "function", "function": {"name": "look_up", "description": "Looks a contract up. " * 300}}]
    project.write_data([{**row, "messages": turns, "tools": tools}])
    server = PolicyServer()
    server.start()
    try:
        sampler = {"type": "openai", "model": "policy", "base_url": server.base_url, "n": 1}
        plan = planned(project, sampler=sampler).dimensions[SAMPLING]
        lrf.run(project.pipeline(sample=sampler), runs=project.runs, last="sample")
    finally:
        server.stop()
    sent = len(json.dumps(server.bodies[0]["messages"])) + len(json.dumps(server.bodies[0]["tools"]))
    assert plan.bound_prompt_tokens >= sent
    assert plan.prompt_tokens > sent / 8


@pytest.mark.usefixtures("rows")
def test_the_command_shows_what_is_to_be_sampled(project: Project) -> None:
    sampler = {"type": "openai", "model": "policy", "n": 4}
    file = project.write(project.pipeline(sample=sampler))
    shown = CliRunner().invoke(cli, ["plan", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "stages: data → sample → score → pairs" in shown.output
    assert "8 candidates and 5 to be sampled" in shown.output
    assert "(sampling)" in shown.output
    assert "no price for the sampler (policy)" in shown.output
    as_json = json.loads(CliRunner().invoke(cli, ["plan", str(file), "--json"]).output)
    assert as_json["to_sample"] == 5
