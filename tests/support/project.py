"""A folder with data and a pipeline, for tests that run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SENTENCES = (
    "The contract of {n} was signed in {n}. Clause {n} names a fee of {n} euros. Both sides agreed in town {n}. "
)


def sample_row(number: int, candidates: int = 5) -> dict[str, Any]:
    """A row of data in which no text stands twice."""
    base = 100 * number + 100
    return {
        "id": f"sample-{number}",
        "context": "".join(SENTENCES.format(n=base + i) for i in range(12)),
        "query": f"Which fee does contract {base} name?",
        "candidates": [
            {"id": f"c{i}", "text": f"Contract {base} names a fee of {base + i} euros. It was signed in {base}."}
            for i in range(candidates)
        ],
    }


class Project:
    """A folder with data and a pipeline file that asks the judge server."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.base_url = base_url
        self.runs = folder / "runs"
        self.data = folder / "data.jsonl"

    def write_data(self, rows: int | list[Any] = 3, candidates: int = 5) -> None:
        """So many good samples, or these rows, of which texts are written as they are."""
        given = [sample_row(i, candidates) for i in range(rows)] if isinstance(rows, int) else rows
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in given]
        self.data.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def pipeline(self, **changes: Any) -> dict[str, Any]:
        """A pipeline of two dimensions that need a judge only; None takes a key out."""
        judge = {"type": "openai", "base_url": self.base_url, "model": "sim", "max_concurrency": 8}
        values: dict[str, Any] = {
            "name": "run",
            "data": {"type": "jsonl", "path": str(self.data)},
            "judges": {"main": {**judge, "request_timeout_s": 30}},
            "dimensions": ["helpfulness", "logicality"],
            "pairs": "best_worst",
            **changes,
        }
        return {key: value for key, value in values.items() if value is not None}

    def with_evidence(self, **changes: Any) -> dict[str, Any]:
        """A pipeline of all four dimensions, with the embedder of the judge server."""
        embedder = {"type": "openai", "base_url": self.base_url, "model": "emb"}
        four = ["helpfulness", "logicality", "faithfulness", "completeness"]
        retrievers = {"main": {"type": "memory", "chunk_tokens": 32}}
        return self.pipeline(embedders={"main": embedder}, retrievers=retrievers, **{"dimensions": four, **changes})

    def write(self, pipeline: Mapping[str, Any]) -> Path:
        """The pipeline as a file."""
        file = self.folder / "pipeline.yaml"
        file.write_text(yaml.safe_dump(dict(pipeline), sort_keys=False), encoding="utf-8")
        return file

    @property
    def run_dir(self) -> Path:
        return self.runs / "run"

    def lines(self, name: str) -> list[Any]:
        """The rows of a file of the run."""
        return [json.loads(line) for line in (self.run_dir / name).read_text(encoding="utf-8").split("\n")[:-1]]

    def files(self) -> dict[str, bytes]:
        """The four files that follow from the replies alone."""
        names = ("rewards.jsonl", "judgements.jsonl", "pairs.jsonl", "left_out.jsonl")
        return {name: (self.run_dir / name).read_bytes() for name in names}
