"""Stage *data*: what is read again, and what a hash of the content saves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import lrf_data.jsonl
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from lrf_data.jsonl import JsonlSource
from lrf_data.settings import JsonlSettings

ROWS = [{"context": f"Text {i}.", "query": "What?", "candidates": [{"text": "That."}]} for i in range(3)]


def write(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def check(folder: Path, **data: object) -> RunSummary:
    catalog = load_catalog()
    value = {"name": "run", "data": {"type": "jsonl", "path": "data.jsonl", **data}}
    pipeline = parse_pipeline(value, catalog, folder=folder)
    return asyncio.run(run_pipeline(pipeline, catalog, folder / "runs", last="data"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []
    read = lrf_data.jsonl.read_jsonl
    monkeypatch.setattr(lrf_data.jsonl, "read_jsonl", lambda path: reads.append(path) or read(path))
    return reads


def test_unchanged_data_is_not_read_again_and_has_the_same_counts(tmp_path: Path, reads: list[Path]) -> None:
    write(tmp_path, ROWS)
    first, second = check(tmp_path), check(tmp_path)
    assert len(reads) == 1
    assert second.results == first.results
    assert second.status == "finished"


def test_changed_data_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    write(tmp_path, ROWS)
    first = check(tmp_path)
    write(tmp_path, [*ROWS[:2], {**ROWS[2], "query": "Where"}])
    second = check(tmp_path)
    assert len(reads) == 2
    assert second.results != first.results


@pytest.mark.parametrize("key", ['"path"', '"\\u0070ath"'])
def test_data_whose_rows_name_other_files_is_read_again(tmp_path: Path, reads: list[Path], key: str) -> None:
    (tmp_path / "text.txt").write_text("A text.", encoding="utf-8")
    row = f'{{"context": [{{{key}: "text.txt"}}], "query": "What?"}}\n'
    (tmp_path / "data.jsonl").write_text(row, encoding="utf-8")
    first = check(tmp_path)
    assert first.status == "finished", first.message
    (tmp_path / "text.txt").write_text("Another text.", encoding="utf-8")
    assert check(tmp_path).results != first.results
    assert len(reads) == 2


def test_bad_rows_are_reported_each_time(tmp_path: Path, reads: list[Path]) -> None:
    write(tmp_path, [*ROWS, {"query": "no context"}])
    for _ in range(2):
        assert check(tmp_path).exit_code == 2
        assert check(tmp_path, on_bad_row="skip").exit_code == 0
    assert len(reads) == 4


def test_a_key_that_lies_across_two_reads_of_the_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.jsonl").write_text('{"context": {"path": "a"}}', encoding="utf-8")
    for size in range(6, 40):
        monkeypatch.setattr(lrf_data.jsonl, "CHUNK", size)
        assert JsonlSource(JsonlSettings(path=tmp_path / "data.jsonl")).content_hash() is None
