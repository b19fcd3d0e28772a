"""Rewards for a trainer that asks for them: by the run's engine, journal and budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lrf.config import Pipeline, parse_pipeline
from lrf.errors import BudgetError, ConfigError, GateError, StageError
from lrf.plugin.catalog import load_catalog
from lrf.protocols import Answers
from lrf.stages.context import StageContext
from lrf.stages.order import STAGES
from lrf.stages.run_dir import RunDir
from lrf.stages.train.prompts import PromptSamples, write_prompts
from lrf.stages.train.rewards import RunRewards
from lrf.stages.train.stage import OnlineTrainResult, TrainResult, TrainStage, with_costs
from project import Project

GRPO: dict[str, Any] = {"type": "grpo", "init": {}, "group": 2, "global_batch": 2}


@pytest.fixture
def online(project: Project) -> Project:
    """A project whose data are prompts without candidates."""
    project.write_data(4, candidates=0)
    return project


def parsed(project: Project, **changes: Any) -> Pipeline:
    return parse_pipeline(project.pipeline(**{"pairs": None, "train": GRPO, **changes}), load_catalog())


def run_dir_of(project: Project, pipeline: Pipeline) -> RunDir:
    run = RunDir(project.folder / "run")
    run.path.mkdir(exist_ok=True)
    context = StageContext(pipeline, load_catalog(), run, log=None, report=lambda _: None)
    write_prompts(context)
    context.observers.close()
    return run


def test_answers_are_rewarded_and_those_of_an_earlier_sitting_are_not_paid_for_again(online: Project) -> None:
    pipeline = parsed(online)
    run = run_dir_of(online, pipeline)
    asked = [Answers(3, ["A fee of 400 euros.", "No fee."]), Answers(0, ["A fee of 100 euros."])]
    with RunRewards(pipeline, run) as rewards:
        first = rewards.score(asked)
        assert rewards.dimensions == ("helpfulness", "logicality")
        assert rewards.costs()["usage"]["calls"] == 6
    assert [[reward.sample_id for reward in of_prompt] for of_prompt in first] == [["sample-3"] * 2, ["sample-0"]]
    with RunRewards(pipeline, run) as rewards:
        assert [[r.reward for r in of] for of in rewards.score(asked)] == [[r.reward for r in of] for of in first]
        assert (rewards.costs()["usage"]["calls"], rewards.costs()["usage"]["reused"]) == (0, 6)


def test_the_budget_is_the_runs_over_all_sittings(online: Project) -> None:
    pipeline = parsed(online, budget={"calls": 5})
    run = run_dir_of(online, pipeline)
    with RunRewards(pipeline, run) as rewards:
        rewards.score([Answers(0, ["One.", "Two."])])
    with RunRewards(pipeline, run) as rewards, pytest.raises(BudgetError, match="5 calls"):
        rewards.score([Answers(0, ["Three."])])


def test_prompts_are_written_for_the_trainer_and_samples_stay_on_the_disk(online: Project) -> None:
    run = run_dir_of(online, parsed(online))
    rows = [json.loads(line) for line in run.prompts.read_text().splitlines()]
    assert [row["sample_id"] for row in rows] == [f"sample-{n}" for n in range(4)]
    samples = PromptSamples(run.prompt_samples)
    assert [samples[place].id for place in (2, 0, 3)] == ["sample-2", "sample-0", "sample-3"]
    assert rows[2]["prompt"][0]["content"] == f"{samples[2].context}\n\n{samples[2].query}"
    with pytest.raises(StageError, match="has 4 samples, so none at place 4"):
        samples[4]
    samples.close()


def test_a_pipeline_with_such_a_trainer_has_no_stages_before_it_but_the_data(online: Project) -> None:
    assert [kind.name for kind in STAGES if kind.of(parsed(online)) is not None] == ["data", "train"]


def test_what_is_missing_or_in_vain_beside_such_a_trainer_is_said_at_once(online: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(online, dimensions=None, data=None, pairs="best_worst")
    problems = [f"{problem.path}: {problem.message}" for problem in refused.value.problems]
    assert problems == [
        "data: missing; the trainer grpo takes its prompts from it",
        "dimensions: missing; the trainer grpo takes what it is rewarded for from it",
        "pairs: the trainer grpo writes its own answers and asks for their rewards while it trains; leave it out",
    ]
    with pytest.raises(ConfigError, match="weights: no dimension is named taste; dimensions: helpfulness, logicality"):
        parsed(online, train={**GRPO, "weights": {"taste": 1}})


def test_more_unscored_answers_than_the_pipeline_allows_are_an_error_that_keeps_the_policy(online: Project) -> None:
    pipeline = parsed(online, max_unscored=0.1)
    run = run_dir_of(online, pipeline)
    context = StageContext(pipeline, load_catalog(), run, log=None, report=lambda _: None)
    stage = TrainStage.of(pipeline)
    assert stage is not None
    trained = TrainResult(checkpoint="policy", launcher="local", processes=1, train_seconds=1.0)
    costs = {"usage": {}, "by_dimension": {}, "embedding_calls": 0, "embedded_texts": 0}
    result = with_costs(context, trained, {**costs, "answers": 20, "unscored_answers": 2})
    stage.gate(context, result)
    with pytest.raises(GateError, match="3 of 20 answers are unscored"):
        stage.gate(context, replace(result, unscored_answers=3))
    kept = OnlineTrainResult.from_json(result.as_json())
    assert kept is not None
    assert (kept.answers, kept.usage.calls, kept.as_skipped().skipped) == (20, 0, True)
    context.observers.close()
