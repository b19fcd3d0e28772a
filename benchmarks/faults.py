"""Scores samples on a simulated judge server that fails, beside the same run on one that doesn't; prints JSON.

    python benchmarks/faults.py --server PATH/judge_server.py --data PATH/longreward_example [--json]

5% of the requests are answered 429 and 3% 503, 0.5% hang for ever; of the replies, 3% are nonsense and 3% are cut off.
The server takes these as --p429, --p500, --phang, --pgarbage and --pcut, and is otherwise the one of score_http.py.
Its books count the calls that it served; those answered 429 or 503, or hung, stand apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from many_samples import FOUR, lrf_run, write_samples
from score_http import get, machine, serving

FAULTS = {"p429": 0.05, "p500": 0.03, "phang": 0.005, "pgarbage": 0.03, "pcut": 0.03}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8904)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--samples", type=int, default=100, help="of ten candidates")
    parser.add_argument("--base-ms", type=float, default=300.0)
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = run(arguments, Path(folder, "plain"), {})
        faulty = run(arguments, Path(folder, "faulty"), FAULTS)
    found = {
        "slots": arguments.slots,
        "base_ms": arguments.base_ms,
        "machine": machine(),
        "faults": FAULTS,
        "without": plain,
        "with": faulty,
        "scored_share": round(faulty["scored"] / faulty["candidates"], 4),
        "calls_ratio": round(faulty["calls"] / plain["calls"], 3),
        "wall_ratio": round(faulty["first_to_last_call_s"] / plain["first_to_last_call_s"], 3),
    }
    print(json.dumps(found, indent=None if arguments.json else 2))


def run(arguments: argparse.Namespace, folder: Path, faults: dict[str, float]) -> dict[str, Any]:
    """One run, and what the server and the run's summary say of it. Ends the script if a row is not accounted for."""
    folder.mkdir()
    write_samples(folder / "samples.jsonl", arguments.data, arguments.samples, 10, 12_000)
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": arguments.base_ms, **faults}
    with serving(arguments.server, options) as address:
        lrf_run(folder, address, arguments.slots, FOUR)
        books = get(f"{address}/stats")
    run_dir = folder / "runs" / "bench"
    score = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["stages"]["score"]
    rows = [json.loads(line) for line in (run_dir / "rewards.jsonl").read_text(encoding="utf-8").splitlines()]
    scored = sum(row["reward"] is not None for row in rows)
    told = sum(row["unscored"] is not None for row in rows)
    if not len(rows) == scored + told == 10 * arguments.samples:
        sys.exit(f"{10 * arguments.samples} candidates went in; {scored} are scored and {told} unscored with a reason")
    return {
        "candidates": len(rows),
        "scored": scored,
        "reasons": score["reasons"],
        "calls": books["calls"],
        "faults_of_the_server": books["faults"],
        "asked_again": score["asked_again"],
        "first_to_last_call_s": round(books["wall_s"], 1),
    }


if __name__ == "__main__":
    main()
