"""Runs whose files were changed, removed or copied without their data, as ``lrf.load_run`` gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lrf
from judge_server import JudgeServer
from project import Project, sample_row


@pytest.fixture
def run(project: Project, judge_server: JudgeServer) -> Path:
    assert lrf.run(project.pipeline(), runs=project.runs).exit_code == 0
    return project.run_dir


def test_a_run_says_what_it_is_and_lacks(run: Path, project: Project) -> None:
    loaded = lrf.load_run(run)
    assert "3 samples, 15 candidates, 15 scored, 0 unscored" in repr(loaded)
    assert "<td>15</td>" in loaded._repr_html_()
    assert "api_key_env" in loaded.settings_text
    with pytest.raises(KeyError, match="nobody"):
        loaded["nobody"]
    for name in ("summary.json", "versions.json"):
        (run / name).write_text("[]")
    (run / "pipeline.yaml").write_text("- no pipeline")
    bare = lrf.load_run(run)
    assert (bare.summary, bare.versions, bare.settings) == ({}, {}, {})
    assert "no summary yet" in repr(bare)
    assert "is no pipeline" in (bare.without_texts or "")
    assert [c.text for sample in bare for c in sample.candidates] == [""] * 15
    (run / "pipeline.yaml").unlink()
    assert lrf.load_run(run).settings_text == ""


def test_data_and_judgements_that_changed_since_are_named(run: Path, project: Project) -> None:
    project.write_data([sample_row(0), sample_row(1)])
    with pytest.raises(lrf.RunError, match="it no longer has the sample 'sample-2'"):
        list(lrf.load_run(run))
    project.write_data([sample_row(0, 4), sample_row(1), sample_row(2)])
    with pytest.raises(lrf.RunError, match="sample 'sample-0' has other candidates"):
        list(lrf.load_run(run))
    project.write_data()
    project.write_data([*map(sample_row, range(5))])
    assert len(list(lrf.load_run(run))) == 3  # rows that came later
    judgements = run / "judgements.jsonl"
    lines = judgements.read_text().splitlines(keepends=True)
    judgements.write_text("".join(lines[1:]))
    with pytest.raises(lrf.RunError, match="no row of candidate 'c0' of sample 'sample-0' in its place"):
        list(lrf.load_run(run))


def test_a_copied_run_reads_its_data_where_one_says(run: Path, project: Project, tmp_path: Path) -> None:
    pipeline = json.loads(json.dumps(lrf.load_run(run).settings))
    assert pipeline["name"] == "run"
    (run / "pipeline.yaml").write_text((run / "pipeline.yaml").read_text().replace(str(project.data), "data.jsonl"))
    (run / "versions.json").write_text("{}")
    assert "data.jsonl" in (lrf.load_run(run).without_texts or "")
    assert lrf.load_run(run, folder=project.folder).without_texts is None
    with pytest.raises(lrf.RunError, match="nothing is scored so far"):
        lrf.load_run(tmp_path)
