"""What becomes of a policy when the pipeline's trainer or its settings change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lrf
from lrf.plugin.catalog import load_catalog
from lrf.stages.summary import RunSummary

TRAINERS = """
from lrf import ComponentSpec, hookimpl
from lrf.protocols import TrainingResult
from lrf.settings import Settings

class Config(Settings):
    note: str = ""

class Copier:
    # writes its note where a trainer writes a model
    def __init__(self, config):
        self.config = config

    def train(self, job):
        checkpoint = job.output / "checkpoint"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "note").write_text(self.config.note)
        return TrainingResult(checkpoint, {"steps": 1})

@hookimpl
def lrf_register_trainers():
    return [ComponentSpec(name, "copying:Copier", "copying:Config", "Copies.") for name in ("copy", "duplicate")]
"""
ROW = '{"prompt": [], "chosen": [], "rejected": []}\n'


@pytest.fixture
def train(tmp_path: Path, distribute: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``train(type="copy", note="x", replace=False)`` runs stage *train* in the same directory each time."""
    site = distribute("copying", entry_points={"copying": "copying"}, modules={"copying": TRAINERS})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    load_catalog.cache_clear()
    (tmp_path / "runs" / "run").mkdir(parents=True)
    (tmp_path / "runs" / "run" / "pairs.jsonl").write_text(ROW)

    def run(*, replace: bool = False, **block: Any) -> RunSummary:
        pipeline: Mapping[str, Any] = {"name": "run", "train": block}
        return lrf.run(pipeline, runs=tmp_path / "runs", first="train", replace=replace)

    yield run
    load_catalog.cache_clear()


def test_a_policy_outlives_another_trainer_until_its_replacement_is_allowed(tmp_path: Path, train: Any) -> None:
    policy = tmp_path / "runs" / "run" / "policy"
    first = train(type="copy", note="one")
    assert first.status == "finished", first.message
    assert (first.files["policy"], first.stages["train"]["steps"]) == ("policy/copy", 1)

    second = train(type="duplicate", note="two")
    assert second.files["policy"] == "policy/duplicate"
    assert (policy / "copy/checkpoint/note").read_text() == "one"
    assert train(type="copy", note="one").results["train"].skipped

    refused = train(type="copy", note="three")
    assert refused.exit_code == 2
    assert f"{policy / 'copy'} has what was trained with other data or settings (checkpoint)" in refused.message
    assert (policy / "copy/checkpoint/note").read_text() == "one"

    assert train(type="copy", note="three", replace=True).status == "finished"
    assert (policy / "copy/checkpoint/note").read_text() == "three"
