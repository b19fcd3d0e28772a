"""What can be known before anything is paid for stops a run, and its plan, before the first call."""

from __future__ import annotations

from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.api import load
from lrf.cli.main import invoke
from lrf.config import parse_pipeline
from lrf.errors import DataError, PluginError
from lrf.plugin.catalog import Catalog
from lrf.plugin.loader import load_plugins
from lrf.stages.run_dir import RunDir
from lrf.stages.runner import run_pipeline
from project import Project, sample_row

BROKEN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    SETTINGS = "acme_settings:AcmeSettings"

    @hookimpl
    def lrf_register_pairings():
        return [ComponentSpec("acme", "acme_parts:Pairs", SETTINGS, "Pairs.", extra="fast", distribution="acme")]

    @hookimpl
    def lrf_register_trainers():
        return [ComponentSpec("acme", "acme_parts:Trainer", SETTINGS, "Trains.", extra="fast", distribution="acme")]
"""
SETTINGS = """
    from lrf.settings import Settings

    class AcmeSettings(Settings):
        pass
"""


@pytest.mark.parametrize("kind", ["pairs", "train"])
async def test_a_component_of_a_later_stage_that_cannot_be_imported_is_known_at_once(
    project: Project, judge_server: JudgeServer, distribute: Any, kind: str
) -> None:
    modules = {"acme_plugin": BROKEN, "acme_settings": SETTINGS, "acme_parts": "import no_such_library"}
    distribute("acme", entry_points={"acme": "acme_plugin"}, modules=modules)
    catalog = Catalog(load_plugins())
    pipeline = parse_pipeline(project.pipeline(**{kind: "acme"}), catalog)
    with pytest.raises(PluginError, match=r"no_such_library.*pip install 'acme\[fast\]'"):
        await run_pipeline(pipeline, catalog, project.runs)
    assert judge_server.books.calls == 0


def test_two_answers_a_question_and_a_rule_that_needs_more_are_refused_with_the_rules_words(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write_data(20, 2)
    with pytest.raises(DataError, match=r"no sample can make a pair.*too_few_scored \(20\): 2 of"):
        lrf.run(project.pipeline(), runs=project.runs)
    assert judge_server.books.calls == 0
    assert invoke(["plan", str(project.write(project.pipeline()))]) == DataError.exit_code
    assert "no sample can make a pair" in capsys.readouterr().err
    assert lrf.run(project.pipeline(), runs=project.runs, last="score").status == "finished"


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        ([sample_row(0, 2), sample_row(1, 5)], {}),
        ([sample_row(0, 2)], {"pairs": {"type": "best_worst", "min_candidates": 2}}),
        ([sample_row(0, 0)], {"sample": {"type": "openai", "model": "policy", "n": 5}}),
    ],
)
def test_pairs_are_possible_where_one_sample_has_enough(
    project: Project, rows: list[Any], more: dict[str, Any]
) -> None:
    project.write_data([{k: v for k, v in row.items() if v} for row in rows])
    pipeline = load(project.pipeline(**more))
    from lrf.stages.pairs.forecast import check_pairs_possible

    check_pairs_possible(pipeline, RunDir(project.run_dir))


def test_data_without_a_candidate_is_refused_with_what_to_do(project: Project, judge_server: JudgeServer) -> None:
    project.write_data([{k: v for k, v in sample_row(i).items() if k != "candidates"} for i in range(3)])
    with pytest.raises(DataError, match=r"none of the 3 samples has a candidate.*`sample:`"):
        lrf.run(project.pipeline(pairs=None), runs=project.runs)
    assert judge_server.books.calls == 0
