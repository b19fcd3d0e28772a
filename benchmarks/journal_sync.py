"""What syncing the journal at each commit costs, and checksums with it; prints JSON.

    python benchmarks/journal_sync.py [--folder DIR]

Commits replies of 1,500 characters from many tasks, as a run does with 256 calls in flight that take 0.1 s each, to two
journals in turn: as it is, and with `PRAGMA synchronous = NORMAL`, which leaves it to the system when the log is
written.
Time and CPU are those of all replies; a wait is from handing a reply over to its commit. One task alone is the worst
case: each of its replies waits for a sync of its own. The folder must lie on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from score_http import machine

from lrf.engine.event_loop import run
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store import database
from lrf.store.journal import Journal, digest

CALL_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the journals are made and removed again")
    parser.add_argument("--replies", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {"FULL": [], "NORMAL": []}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for number in range(arguments.rounds):
            for mode, figures in rounds.items():
                path = Path(folder, f"{mode}-{number}")
                figures.append(run(busy(path, mode, arguments.replies, arguments.in_flight)))
                figures[-1] |= {"wait_alone_ms": run(alone(Path(folder, f"{mode}-{number}-alone"), mode))}
    middle = {
        mode: {name: statistics.median(one[name] for one in figures) for name in figures[0]}
        for mode, figures in rounds.items()
    }
    ratios = {name: round(middle["FULL"][name] / middle["NORMAL"][name], 3) for name in ("seconds", "cpu_s")}
    settings = {"replies": arguments.replies, "in_flight": arguments.in_flight, "machine": machine()}
    print(json.dumps({**settings, "median": middle, "ratio": ratios}, indent=2))


def opened(path: Path, mode: str) -> Journal:
    database.SYNCHRONOUS = mode
    return Journal(path)


async def commit(journal: Journal, number: int) -> float:
    """Seconds from handing a reply over to its commit."""
    asked = Request((Segment("Instructions. " * 100), Segment(f"Answer {number}. " * 50)), Rating(), 512, 0.01)
    reply = Reply(f"Reason {number}. " * 100 + "[[7]]", usage=Usage(2_000, 300))
    began = time.perf_counter()
    key = digest(str(number))
    await journal.commit_reply(key, "{}", asked, reply, sample=str(number), dimension="helpfulness", seconds=CALL_S)
    return time.perf_counter() - began


async def busy(path: Path, mode: str, replies: int, in_flight: int) -> dict[str, Any]:
    journal = opened(path, mode)
    waiting, waits = iter(range(replies)), list[float]()

    async def worker(number: int) -> None:
        await asyncio.sleep(CALL_S * number / in_flight)  # calls don't end all at once
        for reply in waiting:
            await asyncio.sleep(CALL_S)
            waits.append(await commit(journal, reply))

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(number) for number in range(in_flight)))
    await asyncio.to_thread(journal.close)
    waits.sort()
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "wait_median_ms": round(1000 * waits[len(waits) // 2], 2),
        "wait_p99_ms": round(1000 * waits[len(waits) * 99 // 100], 2),
    }


async def alone(path: Path, mode: str) -> float:
    journal = opened(path, mode)
    waits = []
    for number in range(50):
        await asyncio.sleep(0.03)  # the last group is over
        waits.append(await commit(journal, number))
    await asyncio.to_thread(journal.close)
    return round(1000 * statistics.median(waits), 2)


if __name__ == "__main__":
    main()
