"""How soon `lrf view` shows a large run, how long a filter takes, and its memory; prints JSON.

    python benchmarks/view_large.py [--samples 10000] [--candidates 10] [--characters 3000]

The run is made here (two dimensions, texts of random words). *first_page_s*: from starting the command until it lists
the first samples, Python's start included, and the CPU of that; *indexed_s*: until it has read all. Then, over the
whole run: the slowest of several filters and orders, the slowest of several searches in all texts, and the slowest of
several samples. The memory is the server's own, at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from score_http import machine

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from hostile import write_run
from lrf.types import Candidate, Document, JudgedStatement, Judgement, Reward, Sample, Span


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--characters", type=int, default=3_000, help="of a sample's document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = write_run(Path(temporary) / "run", made(arguments))
        figures = measured(run, arguments.samples)
    settings = {name: getattr(arguments, name) for name in ("samples", "candidates", "characters")}
    print(json.dumps({**settings, "machine": machine(), **figures}, indent=2))


def made(arguments: argparse.Namespace) -> Iterator[tuple[Sample, list[Reward]]]:
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5_000)]

    def some(characters: int) -> str:
        return " ".join(chance.choices(words, k=characters // 7 + 1))[:characters]

    for number in range(arguments.samples):
        candidates = tuple(Candidate(str(i), some(300)) for i in range(arguments.candidates))
        rewards = []
        for candidate in candidates:
            statement = JudgedStatement(some(80), "No support", 0.0, (Span("0", 0, 500),), some(100))
            judged = {
                "helpfulness": Judgement(chance.randint(0, 10), some(200)),
                "faithfulness": Judgement(0.0, statements=(statement,) * 3),
            }
            ratings = {name: judgement.rating for name, judgement in judged.items()}
            rewards.append(Reward(str(number), candidate.id, chance.uniform(0, 10), ratings, None, judged))
        yield Sample(str(number), some(80), (Document("0", some(arguments.characters)),), candidates), rewards


def cpu_seconds(pid: int) -> float:
    """The processor's time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(run: Path, samples: int) -> dict[str, float]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "lrf", "view", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address, _, token = process.stdout.readline().strip().partition("?token=")

            def ask(what: str, **asked: object) -> tuple[float, dict[str, object]]:
                start = time.perf_counter()
                asked_for = f"{address}api/{what}?{urlencode(asked)}"
                request = urllib.request.Request(asked_for, headers={"X-LRF-Token": token})
                with urllib.request.urlopen(request) as answer:
                    value = json.load(answer)
                return time.perf_counter() - start, value

            while not ask("samples")[1]["rows"]:
                time.sleep(0.02)
            first, first_cpu = time.perf_counter() - began, cpu_seconds(process.pid)
            while not ask("samples", limit=1)[1]["complete"]:
                time.sleep(0.5)
            indexed = time.perf_counter() - began
            orders = ("in_order", "by_margin", "by_lowest", "by_unscored")
            filters = [ask("samples", filter=f, order=o)[0] for f in ("", "ab", "none of it", "99") for o in orders]
            searched = [ask("samples", filter=f, texts=1)[0] for f in ("ab", "none of it", "xyzzy", "a b", "qu")]
            shown = [ask("sample", id=samples * i // 10)[0] for i in range(10)]
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        finally:
            process.kill()
    return {
        "first_page_s": round(first, 2),
        "first_page_cpu_s": round(first_cpu, 2),
        "indexed_s": round(indexed, 1),
        "slowest_filter_ms": round(1000 * max(filters)),
        "slowest_search_ms": round(1000 * max(searched)),
        "slowest_sample_ms": round(1000 * max(shown)),
        "peak_mib": round(peak / 1024),
    }


if __name__ == "__main__":
    main()
