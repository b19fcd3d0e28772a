"""Tiny pairs and jobs for the trainers' tests."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrf.protocols import TrainingJob

TEMPLATE = "ab" * 32

Row = dict[str, Any]


def _words(count: int, seed: int) -> str:
    source = random.Random(seed)
    return " ".join("".join(source.choices("aeioubcdfg", k=source.randint(1, 6))) for _ in range(count))


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes a row of pairs.jsonl of so many words (prompt, chosen, rejected); a name given replaces that field."""

    def make(number: int = 0, *, words: tuple[int, int, int] = (20, 6, 9), **fields: Any) -> Row:
        return {
            "prompt": [{"role": "user", "content": _words(words[0], 3 * number)}],
            "chosen": [{"role": "assistant", "content": _words(words[1], 3 * number + 1)}],
            "rejected": [{"role": "assistant", "content": _words(words[2], 3 * number + 2)}],
            "sample_id": f"s{number}",
            "prompt_template_sha256": TEMPLATE,
        } | fields

    return make


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., TrainingJob]:
    """Writes rows to a pairs.jsonl and makes a job of it, with its own output folder inside the test's."""

    def make(rows: list[Row], *, output: str = "out", **fields: Any) -> TrainingJob:
        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        defaults: dict[str, Any] = {"model": "", "seed": 7, "prompt_template_sha256": TEMPLATE}
        return TrainingJob(pairs=pairs, output=tmp_path / output, **(defaults | fields))

    return make
