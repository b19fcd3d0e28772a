"""Runs in folders with odd names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import lrf


def test_a_run_in_a_folder_whose_name_is_not_utf8_makes_its_pairs(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"a\xffb")
    folder.mkdir()
    texts = [{"text": "x", "source": "a"}, {"text": "y", "source": "b"}]
    (folder / "d.jsonl").write_text(json.dumps({"query": "q", "context": "c", "candidates": texts}))
    (folder / "p.yaml").write_text(
        "{name: t, data: {type: jsonl, path: d.jsonl}, pairs: {type: contrast, strong: [a], weak: [b]}}"
    )
    summary = lrf.run(folder / "p.yaml", runs=folder / "runs")
    assert (summary.exit_code, summary.status) == (0, "finished"), summary.message
    assert len((folder / "runs" / "t" / "pairs.jsonl").read_text().splitlines()) == 1
