"""`lrf init` and `lrf schema` write files."""

from __future__ import annotations

import json
from pathlib import Path

from lrf.cli.main import invoke
from lrf.config import load_pipeline
from lrf.plugin.catalog import load_catalog


def test_init_writes_a_pipeline_that_is_right(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["init"]) == 0
    pipeline = load_pipeline(tmp_path / "pipeline.yaml", load_catalog())
    assert [d.name for d in pipeline.dimensions] == ["helpfulness", "logicality", "faithfulness", "completeness"]
    text = (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")
    with_training = text.replace("# policy:", "policy:").replace("#   model:", "  model:")
    with_training = with_training.replace("# train:", "train:").replace("#   type: dpo", "  type: dpo")
    (tmp_path / "trained.yaml").write_text(with_training.replace("# sample: {", "sample: {"), encoding="utf-8")
    whole = load_pipeline(tmp_path / "trained.yaml", load_catalog())
    assert whole.train is not None
    assert whole.sample is not None


def test_init_overwrites_nothing_without_force(tmp_path: Path, capsys) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    assert invoke(["init", str(file)]) == 2
    assert "the file exists; --force replaces it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert invoke(["init", str(file), "--force"]) == 0
    assert file.read_text(encoding="utf-8").startswith("# A pipeline of lrf")
    assert invoke(["init", str(tmp_path / "no" / "folder.yaml")]) == 2


def test_schema_prints_and_writes_the_same_json(tmp_path: Path, capsys) -> None:
    assert invoke(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert invoke(["schema", "--output", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == printed
    assert printed["$schema"].endswith("2020-12/schema")
    assert invoke(["schema", "-o", str(tmp_path / "no" / "s.json")]) == 2
