"""What makes a stage be done again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.context import StageContext, _paths
from lrf.stages.run_dir import RunDir


@contextmanager
def context(tmp_path: Path, model: str) -> Iterator[StageContext]:
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
    made = StageContext(
        parse_pipeline(pipeline, catalog, folder=tmp_path), catalog, RunDir(tmp_path), None, lambda _: None
    )
    yield made
    made.observers.close()


def prints(tmp_path: Path, model: str) -> Mapping[str, str]:
    with context(tmp_path, model) as of:
        return {
            "sample": of.sample_fingerprint("d"),
            "score": of.score_fingerprint("d"),
            "train": of.train_fingerprint("d"),
        }


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
    assert {name: str(path) for name, path in _paths(settings)} == {
        "path": "a", "inner.file": "b", "several.0": "c", "several.1": "d", "by_name.x": "e"
    }  # fmt: skip
