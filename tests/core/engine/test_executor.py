"""Executors: a third party's says where components work, and nothing else of a run changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.plugin.catalog import Catalog, load_catalog
from lrf.plugin.loader import load_plugins
from project import Project

PLUGIN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    @hookimpl
    def lrf_register_executors():
        return [ComponentSpec("elsewhere", "acme_places:Elsewhere", "acme_places:Places", "Somewhere else.")]
"""
PLACES = """
    import pickle

    from pydantic import Field
    from lrf.settings import Settings

    PLACED = []

    class Places(Settings):
        full: bool = Field(default=False, description="Whether no place is left.")

    class Elsewhere:
        def __init__(self, settings):
            self.full = settings.full

        def place(self, kind, name, make):
            if self.full:
                raise OSError("no place is left")
            PLACED.append((kind, name))
            return pickle.loads(pickle.dumps(make))()
"""


@pytest.fixture
def elsewhere(distribute: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The places that were given, as the list grows."""
    distribute("acme", entry_points={"acme": "acme_plugin"}, modules={"acme_plugin": PLUGIN, "acme_places": PLACES})
    catalog = Catalog(load_plugins())
    for module in ("api", "assemble", "cli.plan", "stages.runner"):
        monkeypatch.setattr(f"lrf.{module}.load_catalog", lambda: catalog, raising=False)
    monkeypatch.setattr("lrf.plugin.catalog.load_catalog", lambda: catalog)
    import acme_places

    placed: list[tuple[str, str]] = acme_places.PLACED
    return placed


def test_a_run_has_the_same_files_wherever_its_components_work(
    project: Project, judge_server: JudgeServer, elsewhere: list[tuple[str, str]]
) -> None:
    project.write_data(2)
    sampler = {"type": "openai", "base_url": project.base_url, "model": "policy", "n": 6}

    def files(**changes: Any) -> dict[str, bytes]:
        pipeline = project.with_evidence(sample=sampler, **changes)
        summary = lrf.run(pipeline, runs=project.runs)
        assert summary.exit_code == 0, summary
        return project.files()

    here = files()
    assert elsewhere == []
    project.runs = project.folder / "elsewhere"
    assert files(executor="elsewhere") == here
    assert sorted(set(elsewhere)) == [("embedder", "main"), ("judge", "main"), ("sampler", "openai")]


def test_a_place_that_can_not_be_had_is_told_in_a_sentence(
    project: Project, judge_server: JudgeServer, elsewhere: list[tuple[str, str]]
) -> None:
    project.write_data(1)
    summary = lrf.run(project.pipeline(executor={"type": "elsewhere", "full": True}), runs=project.runs)
    assert summary.exit_code == 2
    assert "judge 'main' can't be placed by the executor: OSError: no place is left" in summary.message
    assert judge_server.books.calls == 0


def test_without_an_executor_of_that_name_a_pipeline_is_refused(project: Project) -> None:
    with pytest.raises(lrf.ConfigError, match="unknown executor 'rays'"):
        parse_pipeline(project.pipeline(executor="rays"), load_catalog())
