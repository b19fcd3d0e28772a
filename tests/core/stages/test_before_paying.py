"""What can be known before anything is paid for stops a run, and its plan, before the first call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.api import load
from lrf.cli.main import invoke
from lrf.config import parse_pipeline
from lrf.errors import DataError, PluginError
from lrf.http.settings import unset_variables
from lrf.plugin.catalog import Catalog, load_catalog
from lrf.plugin.importable import problem_of
from lrf.plugin.loader import load_plugins
from lrf.stages.run_dir import RunDir
from lrf.stages.runner import run_pipeline
from lrf.stages.train.policy import lost_policy, make_room
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


REMOTE = {"type": "openai", "base_url": "https://judge.example.com/v1", "model": "sim"}


@pytest.mark.parametrize(
    ("judge", "variable"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"base_url": "http://gpu-7:8000/v1", "api_key_env": "GPU_KEY"}, "GPU_KEY"),
        ({"header_env": {"X-Api-Key": "OTHER_KEY"}}, "OTHER_KEY"),
    ],
    ids=["the default, in public", "named, in a local network", "a header"],
)
def test_a_missing_key_of_a_later_stage_is_known_before_the_first_call(
    project: Project,
    judge_server: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    judge: dict[str, Any],
    variable: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    project.write_data([{k: v for k, v in sample_row(i).items() if k != "candidates"} for i in range(3)])
    sampler = {"type": "openai", "base_url": project.base_url, "model": "policy", "n": 5}
    pipeline = project.pipeline(sample=sampler, judges={"main": {**REMOTE, **judge}})
    summary = lrf.run(pipeline, runs=project.runs)
    assert (summary.status, summary.exit_code) == ("failed", 2)
    assert f"judges.main: the environment variable {variable} is not set" in str(summary.message)
    assert "`api_key_env: null`" in str(summary.message)
    assert invoke(["plan", str(project.write(pipeline))]) == 0
    assert f"`lrf run` will not begin: judges.main: the environment variable {variable}" in capsys.readouterr().out
    assert judge_server.books.calls == 0


@pytest.mark.parametrize(
    "server",
    [
        {"base_url": "http://127.0.0.9:8000/v1", "api_key_env": "UNSET_KEY"},
        {"base_url": "http://[::1]:8000/v1"},
        {"base_url": "http://gpu-7:8000/v1"},
        {"base_url": "http://10.1.2.3:8000/v1"},
        {"base_url": "https://judge.example.com/v1", "api_key_env": None},
    ],
)
def test_a_server_that_needs_no_key_is_asked_without_one(
    project: Project, monkeypatch: pytest.MonkeyPatch, server: dict[str, Any]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    pipeline = load(project.pipeline(judges={"main": {**REMOTE, **server}}))
    assert unset_variables(pipeline.judges["main"].settings) == []


def test_a_package_that_another_interpreter_lacks_is_known_before_the_first_call(
    project: Project, judge_server: JudgeServer, tmp_path: Path
) -> None:
    project.write_data(3)
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['torch'] = None\nfrom importlib import metadata\nhere = metadata.version\n"
        "def version(name):\n    if name == 'torch':\n        raise metadata.PackageNotFoundError(name)\n"
        "    return here(name)\nmetadata.version = version\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/lacking:$PYTHONPATH" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    pipeline = project.pipeline(train={"type": "dpo", "init": {}}, python={"train": str(python)})
    summary = lrf.run(pipeline, runs=project.runs)
    assert summary.exit_code == 2
    assert "train: " in str(summary.message)
    assert "dpo can't be used here: torch is not installed; pip install 'lrf[train]'" in str(summary.message)
    assert judge_server.books.calls == 0


def test_packages_that_only_some_settings_need_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires",
        # asyncio stands for a package that was published under another name, as vLLM is for CPUs
        lambda _: ["numpy>=1; extra == 'fast'", "no-such; extra == 'fast'", "asyncio; extra == 'fast'"],
    )
    spec = load_catalog().find("aggregator", "mean")
    assert problem_of(spec, ()) is None
    assert problem_of(spec, ("fast",)) == "mean can't be used here: no-such is not installed; pip install 'lrf[fast]'"
    trainer = parse_pipeline(
        {"name": "run", "train": {"type": "dpo", "init": {}, "zero": 2, "lora": {}}}, load_catalog()
    )
    assert trainer.train is not None
    assert trainer.train.settings.extras == ("deepspeed", "lora")


def test_a_policy_that_would_be_lost_is_known_before_the_first_call(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write_data(3)
    pipeline = project.pipeline(train={"type": "dpo", "init": {}})
    assert lrf.run(pipeline, runs=project.runs, last="pairs").status == "finished"
    policy = project.run_dir / "policy" / "dpo"
    (policy / "checkpoint").mkdir(parents=True)
    calls = judge_server.books.calls
    changed = {**pipeline, "seed": 7}
    summary = lrf.run(changed, runs=project.runs)
    assert summary.exit_code == 2
    assert "`lrf run --replace`" in str(summary.message)
    assert judge_server.books.calls == calls
    assert invoke(["plan", str(project.write(changed)), "--runs", str(project.runs)]) == 0
    assert "will not begin: train: " in capsys.readouterr().out
    assert (
        lrf.run(changed, runs=project.runs, last="pairs").status == "finished"
    )  # without the training nothing is lost


def test_other_settings_of_the_trainer_are_known_before_the_first_call_and_the_same_are_no_reason(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "dpo"
    make_room(policy, "data and settings", "settings")
    (policy / "checkpoint").mkdir()
    assert lost_policy(policy, settings="settings") is None
    assert "would be lost" in str(lost_policy(policy, settings="others"))
    assert "would be lost" in str(lost_policy(policy))
