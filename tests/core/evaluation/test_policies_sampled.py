"""``lrf evaluate`` with policies that are sampled first: planned, journaled, resumed, within one budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.config import load_pipeline
from lrf.evaluation.questions import prompt_row
from lrf.plugin.catalog import load_catalog
from lrf.rows.data import sample_from_row
from project import Project

TOOL = {"type": "function", "function": {"name": "look_up"}}


def reply(prompt: str, temperature: float) -> str:
    """A policy that is right at temperature 0 and wrong above it, and a judge that knows the right answer."""
    if "<question>" not in prompt:
        return "GOOD answer." if temperature == 0 else "BAD answer."
    return f"So. Rating: [[{9 if 'GOOD' in prompt[prompt.rindex('<question>') :] else 4}]]"


@pytest.fixture
def asked(project: Project, judge_server: JudgeServer) -> list[str]:
    """The command that compares two policies of one server on three questions, which have answers already."""
    judge_server.reply = reply
    project.write_data(3)
    pipeline = project.write(project.pipeline(dimensions=["helpfulness"], pairs=None))
    for letter, temperature in (("a", 0.0), ("b", 0.9)):
        sample = {"type": "openai", "base_url": project.base_url, "model": letter, "temperature": temperature, "n": 10}
        (project.folder / f"{letter}.yaml").write_text(yaml.safe_dump({"name": letter, "sample": sample}))
    ways = [part for p in "ab" for part in (f"-{p}", str(project.folder / f"{p}.yaml"))]
    return ["evaluate", str(pipeline), *ways, "--runs", str(project.runs), "--json"]


def test_two_policies_are_sampled_and_judged_and_a_second_time_costs_nothing(
    project: Project, judge_server: JudgeServer, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*asked, "--plan"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert {name: of["calls"] for name, of in planned["dimensions"].items()} == {
        "policy a: (sampling)": 3, "policy b: (sampling)": 3, "helpfulness": 6,
    }  # fmt: skip
    assert judge_server.books.calls == 0
    assert invoke(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["counts"], found["price"]["calls"]) == ({"questions": 3}, judge_server.books.calls)
    assert (found["outcomes"]["reward"]["win"], found["rewards"]["reward"]["b"]["value"]) == (3, 4)
    calls = judge_server.books.calls
    assert invoke(asked) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert judge_server.books.calls == calls == 6 + 6
    assert invoke([*asked, "--plan"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["left_calls"] == 0


def test_the_budget_holds_over_both_policies_and_the_judge_and_more_of_it_continues(
    judge_server: JudgeServer, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for budget, why in (("2", "stopped"), ("3", "used up before policy b"), ("6", "used up by the answers")):
        assert invoke([*asked, "--budget", f"calls={budget}"]) == 4
        assert why in capsys.readouterr().err
        assert judge_server.books.calls == int(budget)
    assert invoke(asked) == 0
    assert json.loads(capsys.readouterr().out)["outcomes"]["reward"]["win"] == 3
    assert judge_server.books.repeated == 0


def test_a_policy_without_a_sampler_is_refused_before_anything_is_asked(
    project: Project, judge_server: JudgeServer, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / "b.yaml").write_text("name: b\n")
    assert invoke(asked) == 2
    assert "b.yaml: no `sample:` block, so this pipeline writes no answers" in capsys.readouterr().err
    assert judge_server.books.calls == 0


@pytest.mark.parametrize(
    "row",
    [
        {"context": [{"id": "d", "text": "Text.", "title": "T"}], "query": "What?"},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]},
        {"messages": [{"role": "user", "content": "What?"}], "context": "Text.", "tools": [TOOL]},
    ],
)
def test_a_policy_is_asked_what_the_data_asks_without_the_answers_that_it_has(row: dict[str, Any]) -> None:
    sample = sample_from_row({**row, "id": "q", "candidates": ["x"]}, folder=None, file="f", line=1)
    again = sample_from_row(prompt_row(sample), folder=None, file="f", line=1)
    assert (again.query, again.documents, again.messages, again.tools, again.candidates) == (
        sample.query, sample.documents, sample.messages, sample.tools, (),
    )  # fmt: skip


def test_a_policy_keeps_its_own_settings_and_shares_the_prompt(project: Project, asked: list[str]) -> None:
    from lrf.evaluation.pipelines import sampling_pipeline

    catalog = load_catalog()
    base = load_pipeline(asked[1], catalog)
    policy = load_pipeline(project.folder / "b.yaml", catalog)
    made = sampling_pipeline(base, policy, catalog, name="x", rows=Path("rows.jsonl"), budget="calls=5")
    assert made.sample is not None
    assert (made.sample.generation.temperature, made.sample.generation.n, made.budget.calls) == (0.9, 1, 5)
    assert made.policy == base.policy
    assert not made.judges
