"""How busy lrf keeps a decision server of 256 slots that takes 3 s, beside a bare loop of the same requests, as JSON.

    python benchmarks/decisions_busy.py --samples 300 --json

Ten candidates a sample, four dimensions, statements are sentences: eleven requests a sample. `slot_time` is the share
of its slots that the server had at work from its first request to its last, `raw` that of an aiohttp loop which sends
as many requests, always 256 at once, and `ratio` is the one by the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
    with DecisionServer(delay_s=arguments.seconds) as server, tempfile.TemporaryDirectory() as folder:
        server.counts = False
        summary = lrf.run(pipeline(Path(folder), server, arguments), runs=Path(folder), last="score")
        if summary.exit_code:
            sys.exit(summary.message)
        ours = server.books
        server.books = Books()
        asyncio.run(bare(server, ours.requests, arguments.slots, ours.bodies[-1]))
        raw = server.books
    figures = {"requests": ours.requests, "seconds": round(ours.last_s - ours.first_s, 1)}
    shares = {"slot_time": share(ours, arguments.slots), "raw": share(raw, arguments.slots)}
    figures |= {name: round(value, 3) for name, value in shares.items()}
    figures["ratio"] = round(shares["slot_time"] / shares["raw"], 3)
    for line in [json.dumps(figures)] if arguments.json else [f"{name}: {figure}" for name, figure in figures.items()]:
        print(line)
    return figures


def share(books: Books, slots: int) -> float:
    return books.busy_s / (slots * (books.last_s - books.first_s))


def pipeline(folder: Path, server: DecisionServer, arguments: argparse.Namespace) -> dict[str, object]:
    data = folder / "data.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for n in range(arguments.samples):
            candidates = [
                {"id": f"c{i}", "text": " ".join(f"Clause {k} of {n} names fee {i}." for k in range(15))}
                for i in range(10)
            ]
            context = " ".join(f"Contract {n} has clause {i}." for i in range(100))
            row = {"id": f"s{n}", "context": context, "query": f"What of {n}?", "candidates": candidates}
            file.write(json.dumps(row) + "\n")
    judge = {"type": "systemone", "base_url": server.base_url, "model": "sim", "max_concurrency": arguments.slots}
    rated = [{"type": name, "read": "document"} for name in ("helpfulness", "logicality", "completeness")]
    return {
        "name": "busy",
        "data": {"type": "jsonl", "path": str(data)},
        "judges": {"main": judge},
        "dimensions": [*rated, {"type": "faithfulness", "read": "document", "statements": "sentences"}],
    }


async def bare(server: DecisionServer, requests: int, slots: int, questions: object) -> None:
    left = iter(range(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=slots)) as session:

        async def one_after_another() -> None:
            for number in left:
                body = {"model": "sim", "state": f"It rained. {number}", "questions": questions}
                async with session.post(f"{server.base_url}/systemone", json=body) as reply:
                    await reply.json()

        await asyncio.gather(*(one_after_another() for _ in range(slots)))


if __name__ == "__main__":
    main()
