"""Distributions as third parties write them: installed as wheels into a folder of their own, beside lrf."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CONTRIB = Path(__file__).parents[1] / "contrib"
SCORE = """
import asyncio
from importlib.metadata import entry_points

from lrf import Candidate, Document, Sample
from lrf.plugin.catalog import load_catalog, load_settings, load_target
from lrf.testing import DirectContext

spec = load_catalog().find("dimension", "section_citations")
(entry,) = entry_points(group="lrf", name="section-citations")
dimension = load_target(spec)(load_settings(spec)())
print(spec.target, entry.dist.name, entry.dist.version)
sample = Sample("s", "?", (Document("0", "# Notice\\n\\n2.3 Delay\\n"),), (Candidate("0", "Sections 2.3 and 9."),))
judgement = asyncio.run(dimension.score(sample, sample.candidates[0], DirectContext(sample)))
print(judgement.rating, [s.verdict for s in judgement.statements])
"""


def run(folder: Path, *arguments: str, cwd: Path | None = None) -> str:
    """What the command prints, with what is installed in ``folder`` on the path."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Installed:
    """A distribution of contrib/: the folder it is installed in, and its tests without its sources."""

    folder: Path
    tests: Path


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installed]:
    """Builds and installs a distribution, once."""

    @cache
    def install(name: str) -> Installed:
        home = tmp_path_factory.mktemp(name)
        sources = home / "sources"
        shutil.copytree(CONTRIB / name, sources)
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
        run(home, "-m", "pip", "install", *options, "--target", str(home / "installed"), str(sources))
        shutil.rmtree(sources / "src")
        return Installed(home / "installed", sources)

    return install


@pytest.mark.parametrize(
    ("name", "kind", "component", "distribution"),
    [
        ("lrf-anthropic", "judge", "anthropic", "lrf-anthropic"),
        ("lrf-section-citations", "dimension", "section_citations", "lrf-section-citations"),
        ("template", "dimension", "conciseness", "lrf-example"),
        pytest.param("lrf-opentelemetry", "observer", "opentelemetry", "lrf-opentelemetry", marks=pytest.mark.slow),
        pytest.param("lrf-trackers", "observer", "mlflow", "lrf-trackers", marks=pytest.mark.slow),
    ],
)
def test_an_installed_plugin_is_listed_beside_the_built_ins(
    install: Callable[[str], Installed], name: str, kind: str, component: str, distribution: str
) -> None:
    listed = [line.split() for line in run(install(name).folder, "-m", "lrf", "plugins").splitlines()]
    assert [line[-2] for line in listed if line[:2] == [kind, component]] == [distribution]
    assert any(line[:2] == ["dimension", "helpfulness"] for line in listed)


@pytest.mark.parametrize(
    "name",
    [
        "lrf-anthropic",
        "lrf-section-citations",
        "template",
        pytest.param("lrf-opentelemetry", marks=pytest.mark.slow),
        pytest.param("lrf-trackers", marks=pytest.mark.slow),
    ],
)
def test_the_plugins_own_tests_pass_against_what_was_installed(install: Callable[[str], Installed], name: str) -> None:
    installed = install(name)
    said = run(
        installed.folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", cwd=installed.tests
    )
    assert " passed" in said


def test_an_installed_dimension_is_found_by_name_and_scores(install: Callable[[str], Installed]) -> None:
    assert run(install("lrf-section-citations").folder, "-c", SCORE).splitlines() == [
        "lrf_section_citations.dimension:SectionCitations lrf-section-citations 0.1.0",
        "5.0 ['exists', 'missing']",
    ]


def test_an_installed_dimension_is_used_by_its_name(install: Callable[[str], Installed], tmp_path: Path) -> None:
    answers = {"a": "Section 2.3 says so.", "b": "See section 9.", "c": "Sections 2.3 and 9 say so."}
    row = {
        "id": "s",
        "context": "# Notice\n\n2.3 Delay\n",
        "query": "What of delays?",
        "candidates": [{"id": name, "text": text} for name, text in answers.items()],
    }
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    (tmp_path / "pipeline.yaml").write_text(
        "name: cited\n"
        "data: {type: jsonl, path: data.jsonl}\n"
        "dimensions: [section_citations]\n"
        "pairs: {type: best_worst, min_candidates: 3}\n"
    )
    run(install("lrf-section-citations").folder, "-m", "lrf", "run", "pipeline.yaml", cwd=tmp_path)
    files = tmp_path / "runs" / "cited"
    rewards = [json.loads(line) for line in (files / "rewards.jsonl").read_text().splitlines()]
    assert [(r["candidate_id"], r["reward"]) for r in rewards] == [("a", 10.0), ("b", 0.0), ("c", 5.0)]
    pair = json.loads((files / "pairs.jsonl").read_text())
    assert (pair["chosen_id"], pair["rejected_id"]) == ("a", "b")
