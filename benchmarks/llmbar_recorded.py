"""Every judge that LLMBar's authors recorded, computed again: python benchmarks/llmbar_recorded.py FOLDER

FOLDER is a clone of github.com/princeton-nlp/LLMBar. For each evaluator with a result.json and a statistics.json the
figures of ``lrf bench llmbar`` are compared with the authors' as numbers, digit for digit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from lrf.protocols import Judged
from lrf.types import BadRow
from lrf_benchmarks.pairwise import LlmBar
from lrf_benchmarks.settings import BenchmarkSettings


def published(path: Path) -> Mapping[str, float | None]:
    """The authors' figures as numbers; None for NaN."""
    numbers = {
        key: float(value.split("=")[-1].rstrip("%")) if isinstance(value, str) else value
        for key, value in json.loads(path.read_text()).items()
    }
    return {key: None if number != number else number for key, number in numbers.items()}


def computed(result: Path) -> Mapping[str, float | None]:
    benchmark = LlmBar(BenchmarkSettings(path=result))
    recorded = {one.id: one.decisions for one in benchmark.recorded(result)}
    questions = [row for row in benchmark.read() if not isinstance(row, BadRow)]
    return benchmark.measure([Judged(q.sample.id, q.label, "", (), recorded[q.sample.id]) for q in questions])


def main(folder: Path) -> int:
    files = sorted(folder.rglob("statistics.json"))
    differ = [file for file in files if published(file) != computed(file.with_name("result.json"))]
    for file in differ:
        print(f"differs: {file}")
    print(f"{len(files) - len(differ)} of {len(files)} recorded judges are equal to the authors' statistics")
    return int(bool(differ) or not files)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
