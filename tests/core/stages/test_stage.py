"""A stage is one folder: what a run does with a stage that lrf doesn't have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import lengths_stage
from lengths_stage.stage import LengthsInAProcess, LengthsStage
from lrf.cli import run as command
from lrf.config import load_pipeline
from lrf.config.model import Interpreters
from lrf.errors import ConfigError
from lrf.plugin.catalog import load_catalog
from lrf.stages.order import STAGES
from lrf.stages.runner import chosen_stages, run_pipeline
from lrf.stages.summary import RunSummary
from project import Project

ALL = (*STAGES, LengthsStage)


async def run(project: Project, stage: type[LengthsStage] = LengthsStage, first: str | None = None) -> RunSummary:
    pipeline = load_pipeline(project.write(project.pipeline()), load_catalog())
    return await run_pipeline(pipeline, load_catalog(), project.runs, first=first, stages=(*STAGES, stage))


@pytest.mark.parametrize("stage", [LengthsStage, LengthsInAProcess])
async def test_a_stage_in_one_folder_is_run_and_in_the_summary_and_skipped_once_it_is_finished(
    project: Project, stage: type[LengthsStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    support = str(Path(str(lengths_stage.__file__)).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (support, os.environ.get("PYTHONPATH")))))
    summary = await run(project, stage)
    assert summary.status == "finished", summary.message
    kept = json.loads((project.run_dir / "summary.json").read_text())
    assert kept["stages"]["lengths"] == {"skipped": False, **json.loads((project.run_dir / "lengths.json").read_text())}
    assert kept["files"]["lengths"] == "lengths.json"
    again = await run(project, stage, first="lengths")
    assert list(again.results) == ["lengths"]
    assert again.results["lengths"].skipped
    (project.run_dir / "lengths.json").write_text("scribble")
    assert not (await run(project, stage, first="lengths")).results["lengths"].skipped


async def test_a_stage_that_misses_what_it_works_on_says_so(project: Project) -> None:
    summary = await run(project, first="lengths")
    assert (summary.exit_code, summary.message) == (1, "there are no pairs; run stage pairs first (`--from pairs`)")


def test_stages_are_chosen_by_name_in_their_order_with_what_they_need(project: Project) -> None:
    pipeline = load_pipeline(project.write(project.pipeline()), load_catalog())

    def names(first: str | None = None, last: str | None = None) -> list[str]:
        return [stage.name for stage in chosen_stages(pipeline, first, last, ALL)]

    assert names() == ["data", "score", "pairs", "lengths"]
    assert names("pairs") == ["data", "pairs", "lengths"]
    assert names("lengths") == ["lengths"]
    assert names(last="data") == ["data"]
    with pytest.raises(ConfigError, match="no stage is named 'skore'; allowed: data, sample, score, pairs, train, len"):
        names("skore")


def test_commands_and_interpreters_name_the_stages_there_are() -> None:
    """They have the names as literals: commands import no stage, and the pipeline's model knows none."""
    names = [stage.name for stage in STAGES]
    assert list(command.STAGES) == names
    assert list(Interpreters.model_fields) == names[1:]
