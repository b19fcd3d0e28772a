"""How busy lrf keeps a decision server of 256 slots that takes 3 s, beside a raw loop of the same requests, as JSON.

    python benchmarks/decisions_busy.py --samples 300 --json

Ten candidates a sample, four dimensions, statements are sentences: eleven requests a sample. The server is a process of
its own. `slot_time` is the share of its slots that it had at work from its first request to its last, `raw` that of an
aiohttp loop which sends the very same bodies, always 256 at once, writes and reads their JSON, and does nothing else;
`ratio` is the one by the other. `cpu_ms_a_request` and `cpu_ms_a_question` are lrf's, starting up not included, and
`raw_cpu_ms_a_request` is the loop's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import lrf
from decision_server import Books, DecisionServer


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of one a figure")
    arguments = parser.parse_args(given)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, arguments.seconds), daemon=True)
    server.start()
    url = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        warm = run(Path(folder), "warm", url, arguments.slots, 1)
        few = taken(ours)
        cpu = run(Path(folder), "busy", url, arguments.slots, arguments.samples) - warm
    many = taken(ours)
    raw_cpu = time.process_time()
    asyncio.run(raw_loop(url, many.bodies, arguments.slots))
    raw_cpu = time.process_time() - raw_cpu
    raw = taken(ours)
    ours.send(None)
    server.join()
    shares = {"slot_time": share(many, arguments.slots), "raw": share(raw, arguments.slots)}
    figures = {
        "requests": many.requests,
        "questions": many.questions,
        "seconds": round(many.last_s - many.first_s, 1),
        **{name: round(value, 3) for name, value in shares.items()},
        "ratio": round(shares["slot_time"] / shares["raw"], 3),
        "cpu_ms_a_request": round(1000 * cpu / (many.requests - few.requests), 2),
        "cpu_ms_a_question": round(1000 * cpu / (many.questions - few.questions), 3),
        "raw_cpu_ms_a_request": round(1000 * raw_cpu / raw.requests, 2),
    }
    for line in [json.dumps(figures)] if arguments.json else [f"{name}: {figure}" for name, figure in figures.items()]:
        print(line)
    return figures


def serve(pipe: Connection, seconds: float) -> None:
    """Serve until told to end; hand out the books, and begin new ones, whenever asked for them."""
    with DecisionServer(delay_s=seconds) as server:
        server.counts = False
        pipe.send(server.base_url)
        while pipe.recv():
            pipe.send(server.books)
            server.books = Books()


def taken(pipe: Connection) -> Books:
    pipe.send("books")
    books: Books = pipe.recv()
    return books


def share(books: Books, slots: int) -> float:
    return books.busy_s / (slots * (books.last_s - books.first_s))


def run(folder: Path, name: str, url: str, slots: int, samples: int) -> float:
    """Score so many samples; the seconds of CPU that it took."""
    data = folder / f"{name}.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for n in range(samples):
            candidates = [
                {"id": f"c{i}", "text": " ".join(f"Clause {k} of {n} names fee {i}." for k in range(15))}
                for i in range(10)
            ]
            context = " ".join(f"Contract {n} has clause {i}." for i in range(100))
            row = {"id": f"s{n}", "context": context, "query": f"What of {n}?", "candidates": candidates}
            file.write(json.dumps(row) + "\n")
    rated = [{"type": dimension, "read": "document"} for dimension in ("helpfulness", "logicality", "completeness")]
    pipeline = {
        "name": name,
        "data": {"type": "jsonl", "path": str(data)},
        "judges": {"main": {"type": "systemone", "base_url": url, "model": "sim", "max_concurrency": slots}},
        "dimensions": [*rated, {"type": "faithfulness", "read": "document", "statements": "sentences"}],
    }
    cpu = time.process_time()
    summary = lrf.run(pipeline, runs=folder, last="score")
    cpu = time.process_time() - cpu
    if summary.exit_code:
        sys.exit(summary.message)
    return cpu


async def raw_loop(url: str, bodies: Sequence[Any], slots: int) -> None:
    """Send these bodies, so many at once, and read the replies."""
    left = iter(bodies)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=slots)) as session:

        async def one_after_another() -> None:
            for body in left:
                async with session.post(f"{url}/systemone", json=body) as reply:
                    await reply.json()

        await asyncio.gather(*(one_after_another() for _ in range(slots)))


if __name__ == "__main__":
    main()
