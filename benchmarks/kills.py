"""Kills a run again and again, and counts what was lost and what was paid twice; prints JSON.

    python benchmarks/kills.py --server PATH/judge_server.py --data PATH/longreward_example [--kills 20] [--json]

`lrf run` is killed (SIGKILL) at a random moment of its calls, as often as --kills says, and then run to its end. Beside
it the same run without a kill. Both must have the same files, byte for byte. A call may be paid for again only if it
was in flight at a kill: sent and not yet committed, of which there are twice as many as slots at most. The server is
the one of score_http.py; its books count the calls.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import yaml
from many_samples import FOUR, lrf_run, pipeline, write_samples
from score_http import get, machine, reset, serving

FILES = ("rewards.jsonl", "judgements.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8906)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--samples", type=int, default=30, help="of ten candidates")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": 20, "decode-us": 0}
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, address, Path(folder))
    settings = {name: getattr(arguments, name) for name in ("samples", "slots", "kills")}
    print(json.dumps({**settings, "machine": machine(), **figures}, indent=None if arguments.json else 2))


def measure(arguments: argparse.Namespace, address: str, folder: Path) -> dict[str, Any]:
    for name in ("whole", "killed"):
        (folder / name).mkdir()
        write_samples(folder / name / "samples.jsonl", arguments.data, arguments.samples, 10, 6_000)
    reset(address)
    lrf_run(folder / "whole", address, arguments.slots, FOUR)
    calls = get(f"{address}/stats")["calls"]
    reset(address)
    (folder / "killed" / "pipeline.yaml").write_text(yaml.safe_dump(pipeline(address, arguments.slots, FOUR)))
    draw = random.Random(0)
    at = sorted(draw.uniform(0, calls) for _ in range(arguments.kills))
    for number, moment in enumerate(at):
        kill(folder / "killed", address, round(moment) + number * arguments.slots)
    lrf_run(folder / "killed", address, arguments.slots, FOUR)
    paid = get(f"{address}/stats")["calls"]
    made = {
        name: [(folder / run / "runs" / "bench" / name).read_bytes() for run in ("whole", "killed")] for name in FILES
    }
    return {
        "calls": calls,
        "calls_of_the_killed_run": paid,
        "paid_again_a_kill": round((paid - calls) / max(1, arguments.kills), 2),
        "most_in_flight": 2 * arguments.slots,
        "within_bound": calls <= paid <= calls + arguments.kills * 2 * arguments.slots,
        "same_files": all(whole == killed for whole, killed in made.values()),
        "candidates": made["rewards.jsonl"][1].count(b"\n"),
    }


def kill(folder: Path, address: str, at: int) -> None:
    """Run the pipeline until the server has had so many calls, or the run ends, and kill it."""
    with (folder / "out.txt").open("ab") as out:
        command = [sys.executable, "-m", "lrf", "run", "pipeline.yaml"]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None and calls_of(address) < at:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def calls_of(address: str) -> int:
    """The calls that the server has had; 0 before it can tell, which is once one of them has ended."""
    try:
        return int(get(f"{address}/stats")["calls"])
    except HTTPError:
        return 0


if __name__ == "__main__":
    main()
