"""What `lrf run` costs on a run that is finished, killed near its end, or to be made again of its journal; prints JSON.

    python benchmarks/finished_run.py --server PATH/judge_server.py --data PATH/longreward_example [--samples 100000]

Samples of one candidate, helpfulness only (or as --candidates and --dimensions say), each phase in a process of its
own; a figure is CPU of that process.
*paying*: a new run. *finished*: the same command again. *replayed*: again without the files and the record of stage
*score*, so that every reply is looked up in the journal. *resumed*: a run of the same samples that is killed when 97%
of its calls are made, and the command again. What a run of one sample costs is taken off all but *finished*.
The journal's free pages are those that SQLite holds for later use. The server is the one of score_http.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from many_samples import pipeline, write_samples
from score_http import get, machine, reset, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8905)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--dimensions", nargs="+", default=["helpfulness"])
    parser.add_argument("--characters", type=int, default=3_000, help="of a sample's document")
    parser.add_argument("--no-kill", action="store_true", help="leave out the run that is killed, which takes longest")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--folder", type=Path, help="keep everything here; a new folder that is removed by default")
    arguments = parser.parse_args()
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": 5, "decode-us": 0}
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as temporary:
        figures = measure(arguments, address, arguments.folder or Path(temporary))
    settings = {
        name: getattr(arguments, name) for name in ("samples", "candidates", "dimensions", "characters", "slots")
    }
    print(json.dumps({**settings, "machine": machine(), **figures}, indent=None if arguments.json else 2))


def measure(arguments: argparse.Namespace, address: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (("few", 1), ("many", arguments.samples)):
        write_samples(folder / f"{name}.jsonl", arguments.data, samples, arguments.candidates, arguments.characters)
        for run in (name, f"{name}-killed"):
            values = pipeline(address, arguments.slots, arguments.dimensions)
            values |= {"name": run, "data": {"type": "jsonl", "path": f"{name}.jsonl"}}
            (folder / f"{run}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    few = cpu_of_run(folder, "few")
    reset(address)
    paying = cpu_of_run(folder, "many")
    calls = get(f"{address}/stats")["calls"]
    pages = pages_of(folder / "runs" / "many" / "journal.sqlite")
    finished = cpu_of_run(folder, "many")
    (folder / "runs" / "many" / "stages" / "score.json").unlink()
    replayed = cpu_of_run(folder, "many")
    a_call = (paying - few) / calls
    return {
        "cpu_s": {"few": few, "paying": paying, "finished": finished, "replayed": replayed},
        "calls": calls,
        "cpu_ms_a_call_paying": round(1000 * a_call, 3),
        "cpu_ms_a_call_replayed": round(1000 * (replayed - few) / calls, 3),
        "replayed_to_paying": round((replayed - few) / (paying - few), 3),
        **pages,
        **({} if arguments.no_kill else killed_and_resumed(folder, address, calls, few, a_call)),
    }


def killed_and_resumed(folder: Path, address: str, calls: int, few: float, a_call: float) -> dict[str, Any]:
    """What a run costs that was killed near its end. ``few``, ``a_call``: CPU of a run of one sample, and of a call."""
    reset(address)
    killed = cpu_of_run(folder, "many-killed", address, kill_at=round(0.97 * calls))
    before = get(f"{address}/stats")["calls"]
    resumed = cpu_of_run(folder, "many-killed")
    paid_again = get(f"{address}/stats")["calls"] - before
    resuming = (resumed - few - paid_again * a_call) / (calls - paid_again)
    return {
        "killed_cpu_s": killed,
        "resumed_cpu_s": resumed,
        "calls_paid_by_the_resumed_run": paid_again,
        "resumed_to_paying": round(resuming / a_call, 3),
    }


def cpu_of_run(folder: Path, name: str, address: str = "", kill_at: int | None = None) -> float:
    """CPU seconds of a run as a user starts it; killed once the server has had ``kill_at`` calls."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "lrf", "run", f"{name}.yaml"]
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        while kill_at is not None and process.poll() is None and get(f"{address}/stats")["calls"] < kill_at:
            time.sleep(0.2)
        if kill_at is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        sys.exit(f"{name} ended with {process.returncode}:\n{(folder / f'{name}.out').read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)


def pages_of(journal: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(journal)) as connection:
        pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return {"journal_mib": round(journal.stat().st_size / 2**20, 1), "free_pages_share": round(free / pages, 3)}


if __name__ == "__main__":
    main()
