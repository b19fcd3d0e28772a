"""How the calls of a run grow with the workers of a Ray executor on one machine, as JSON.

    python benchmarks/ray_workers.py --json

A judge of 16 slots a worker whose replies take 400 ms; helpfulness only, so that nothing waits for anything. `linear`
is the rate of calls with so many workers by that with one, over the number of workers; `calls_per_s_here` is that of a
run without an executor and with as many slots, `same_files` whether rewards and
judgements have the bytes of a run without an executor; `cpu_ms` what the run's own process spends on a call.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import lrf
from judge_server import Books, JudgeServer, default_reply


def main(given: Sequence[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--calls", type=int, default=480, help="calls for each worker")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of one a figure")
    arguments = parser.parse_args(given)
    server = JudgeServer()
    server.delay_s = arguments.seconds
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), server, arguments)
    finally:
        server.stop()
    for line in [json.dumps(figures)] if arguments.json else [f"{name}: {figure}" for name, figure in figures.items()]:
        print(line)
    return figures


def measure(folder: Path, server: JudgeServer, arguments: argparse.Namespace) -> dict[str, object]:
    figures: dict[str, object] = {}
    one = None
    same = True
    for workers in arguments.workers:
        rate, cpu_ms = run(folder, server, arguments, workers, {"type": "ray", "workers": workers})
        one = one or rate / workers
        figures[f"calls_per_s_{workers}"] = round(rate, 1)
        figures[f"linear_{workers}"] = round(rate / workers / one, 3)
        figures[f"cpu_ms_{workers}"] = round(cpu_ms, 2)
        here, _ = run(folder, server, arguments, workers, None)
        figures[f"calls_per_s_here_{workers}"] = round(here, 1)
        files = [[folder / f"{kind}{workers}" / name for kind in ("ray", "here")] for name in FILES]
        same &= all(there.read_bytes() == here.read_bytes() for there, here in files)
    figures["same_files"] = same
    return figures


FILES = ("rewards.jsonl", "judgements.jsonl")


def run(
    folder: Path,
    server: JudgeServer,
    arguments: argparse.Namespace,
    workers: int,
    executor: Mapping[str, object] | None,
) -> tuple[float, float]:
    """Calls a second from the first quarter on, and CPU milliseconds a call of this process (the server's too)."""
    calls = arguments.calls * workers
    data = folder / f"data{workers}.jsonl"
    rows = (
        {
            "id": f"s{n}",
            "context": f"Contract {n // 4} names fee {n}. " * 40,
            "query": "What fee?",
            "candidates": [f"Fee {n}."],
        }
        for n in range(calls)
    )
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server.books = Books()
    asked: list[float] = []

    def reply(prompt: str, temperature: float) -> str:
        asked.append(time.monotonic())
        return default_reply(prompt, temperature)

    server.reply = reply
    cpu = time.process_time()
    name = f"ray{workers}" if executor else f"here{workers}"
    slots = arguments.slots * (1 if executor else workers)
    judge = {"type": "openai", "base_url": server.base_url, "model": "sim", "max_concurrency": slots}
    summary = lrf.run(
        {
            "name": name,
            "data": {"type": "jsonl", "path": str(data)},
            "judges": {"main": judge},
            "dimensions": ["helpfulness"],
            **({"executor": dict(executor)} if executor else {}),
        },
        runs=folder,
        last="score",
    )
    if summary.exit_code:
        sys.exit(summary.message)
    assert len(asked) == calls
    steady = asked[calls // 4 :]  # all workers are there by then
    return len(steady) / (steady[-1] - steady[0]), 1000 * (time.process_time() - cpu) / calls


if __name__ == "__main__":
    main()
