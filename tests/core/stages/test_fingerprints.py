"""What makes a stage be done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lrf.config import parse_pipeline
from lrf.engine.budget import Line
from lrf.plugin.catalog import load_catalog
from lrf.stages.context import StageContext
from lrf.stages.data import DataResult
from lrf.stages.fingerprints import component_fingerprint, paths_in
from lrf.stages.order import STAGES
from lrf.stages.run_dir import RunDir
from lrf.stages.sample.result import SampleResult
from lrf.stages.stage import AllSittings, Money


def prints(tmp_path: Path, model: str) -> Mapping[str, str]:
    """The fingerprints of the stages that use this model."""
    pipeline = {
        "name": "n",
        "data": {"type": "jsonl", "path": "data.jsonl"},
        "sample": {"type": "openai", "model": model},
        "judges": {"main": {"type": "openai", "model": model}},
        "dimensions": ["helpfulness"],
        "policy": {"model": model},
        "train": "dpo",
    }
    catalog = load_catalog()
    parsed = parse_pipeline(pipeline, catalog, folder=tmp_path)
    context = StageContext(parsed, catalog, RunDir(tmp_path), None, lambda _: None)
    data = DataResult(rows=1, samples=1, bad_rows=0, candidates=0, sha256="d")
    context.run_dir.record("data").write("d", [], data.as_json())
    no_figures = dict.fromkeys(("left_out", "transient", "given", "drawn", "candidates", "cut_off"), 0)
    paid = {"usage": Line(), "embedding_calls": 0, "embedded_texts": 0, "by_dimension": {}}
    paid |= {"all_sittings": AllSittings(calls=0, tokens=0)}
    paid |= {"money": Money(spent={}, by_dimension={}, unpriced_calls={}, prices="")}
    sample: Any = {"samples": 1, "sampled": 1, "dropped": {}, "reasons": {}, **no_figures, **paid}
    sampled = SampleResult(**sample, sha256="s", data="d", sample_seconds=0.0)
    context.run_dir.record("sample").write("s", [], sampled.as_json())
    try:
        stages = [stage for kind in STAGES if (stage := kind.of(parsed)) and kind.name != "data"]
        return {stage.name: stage.fingerprint(context) for stage in stages}
    finally:
        context.observers.close()


@pytest.mark.parametrize("stage", ["sample", "score", "train"])
def test_a_checkpoint_that_was_made_anew_at_its_place_makes_a_stage_be_done_again(tmp_path: Path, stage: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"1")
    before = prints(tmp_path, str(checkpoint))
    assert prints(tmp_path, str(checkpoint)) == before
    (checkpoint / "model.safetensors").write_bytes(b"22")
    assert prints(tmp_path, str(checkpoint))[stage] != before[stage]


def test_a_models_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = prints(tmp_path, "checkpoint")
    (tmp_path / "checkpoint").write_bytes(b"1")
    assert prints(tmp_path, "checkpoint") == before


def test_paths_are_found_wherever_they_stand_in_settings() -> None:
    class Inner(BaseModel):
        file: Path

    class Settings(BaseModel):
        path: Path
        inner: Inner
        several: tuple[Path, ...]
        by_name: dict[str, Path]

    settings = Settings(
        path=Path("a"), inner=Inner(file=Path("b")), several=(Path("c"), Path("d")), by_name={"x": Path("e")}
    )
    assert {name: str(path) for name, path in paths_in(settings)} == {
        "path": "a", "inner.file": "b", "several.0": "c", "several.1": "d", "by_name.x": "e"
    }  # fmt: skip


def test_a_folder_that_decides_only_how_it_is_done_may_change(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    values = {
        "name": "run",
        "judges": {"main": {"type": "transformers", "model": "some/model", "cache_dir": str(tmp_path / "cache")}},
        "embedders": {"main": {"type": "openai", "model": "some-embedder"}},
        "retrievers": {"main": {"type": "qdrant", "path": str(tmp_path / "cache")}},
    }
    pipeline = parse_pipeline(values, load_catalog())
    blocks = [pipeline.judges["main"], pipeline.retrievers["main"]]
    before = [component_fingerprint(block, load_catalog()) for block in blocks]
    (tmp_path / "cache" / "file").write_bytes(b"1")
    assert [component_fingerprint(block, load_catalog()) for block in blocks] == before
