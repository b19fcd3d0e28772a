"""Scores many samples on a simulated judge server, beside a raw aiohttp loop over the same calls; prints JSON.

    python benchmarks/many_samples.py --server PATH/judge_server.py --data PATH/longreward_example
    python benchmarks/many_samples.py --server … --data … --memory

Without --memory: 300 samples of 10 candidates, four dimensions, 256 slots. How much of the server's slot-time does the
run use, and how much does a loop that does nothing but post the same prompts, in the order in which they were asked?
With --memory: peak memory of `lrf run` on 50,000 candidates against 500, helpfulness only.
Both are ratios within one run. The server is the one of score_http.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from score_http import get, machine, serving

FOUR = ["helpfulness", "logicality", "faithfulness", "completeness"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--base-ms", type=float, default=300.0)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    base_ms = 5.0 if arguments.memory else arguments.base_ms
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": base_ms}
    if arguments.memory:
        options["decode-us"] = 0
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as folder:
        found = (memory if arguments.memory else throughput)(arguments, address, Path(folder))
    print(json.dumps({"slots": arguments.slots, "base_ms": base_ms, "machine": machine(), **found}, indent=2))


def throughput(arguments: argparse.Namespace, address: str, folder: Path) -> dict[str, Any]:
    write_samples(folder / "samples.jsonl", arguments.data, arguments.samples, 10, 12_000)
    lrf_run(folder, address, arguments.slots, FOUR)
    ours = get(f"{address}/stats")
    prompts = list(prompts_of(folder / "runs" / "bench" / "journal.sqlite"))
    asyncio.run(post(f"{address}/reset", []))
    asyncio.run(post(f"{address}/v1/chat/completions", prompts, arguments.slots))
    raw = get(f"{address}/stats")
    used = {name: b["busy_s"] / (b["wall_s"] * arguments.slots) for name, b in (("lrf", ours), ("raw", raw))}
    return {
        "judge_calls": ours["calls"],
        "raw_calls": raw["calls"],
        "slot_time_used": round(used["lrf"], 3),
        "slot_time_used_by_the_raw_loop": round(used["raw"], 3),
        "ratio": round(used["lrf"] / used["raw"], 3),
    }


def memory(arguments: argparse.Namespace, address: str, folder: Path) -> dict[str, Any]:
    peaks = {}
    for samples in (50, 5000):  # the small run first: the peak of all children only ever rises
        work = folder / str(samples)
        work.mkdir()
        write_samples(work / "samples.jsonl", arguments.data, samples, 10, 3_000)
        lrf_run(work, address, arguments.slots, ["helpfulness"])
        peaks[samples * 10] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "peak_mib": {str(n): round(peak, 1) for n, peak in peaks.items()},
        "ratio": round(peaks[50_000] / peaks[500], 3),
    }


def write_samples(path: Path, data: Path, samples: int, candidates: int, characters: int, *, answer: int = 600) -> None:
    """Samples no two of which share a document's beginning or an answer; ``answer`` is its length at most."""
    document = json.loads((data / "sft.jsonl").read_text(encoding="utf-8").split("\n")[0])
    rows = (data / "sampled_responses.jsonl").read_text(encoding="utf-8").split("\n")
    answers = [json.loads(row)["answer"] for row in rows if row]
    answers = [" ".join(answers[i:] + answers[:i]) for i in range(len(answers))]
    with path.open("w", encoding="utf-8") as f:
        for i in range(samples):
            draw = random.Random(i)
            start = draw.randrange(10_000)
            texts = [f"Answer {i}-{j}. {draw.choice(answers)[:answer]}" for j in range(candidates)]
            row = {
                "id": f"s{i}",
                "context": f"Document {i}.\n{document['context'][start : start + characters]}",
                "query": f"Question {i}: {document['query']}",
                "candidates": [{"id": str(j), "text": text} for j, text in enumerate(texts)],
            }
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def pipeline(address: str, slots: int, dimensions: list[str]) -> dict[str, Any]:
    endpoint = {"type": "openai", "base_url": f"{address}/v1"}
    return {
        "name": "bench",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {"main": {**endpoint, "model": "sim", "max_concurrency": slots, "request_timeout_s": 120}},
        "embedders": {"main": {**endpoint, "model": "embedding-2"}},
        "retrievers": {"main": "memory"},
        "dimensions": dimensions,
    }


def lrf_run(folder: Path, address: str, slots: int, dimensions: list[str]) -> None:
    """A run as a user starts it, in a process of its own."""
    values = yaml.safe_dump(pipeline(address, slots, dimensions))
    (folder / "pipeline.yaml").write_text(values, encoding="utf-8")
    command = [sys.executable, "-m", "lrf", "run", "pipeline.yaml"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"lrf run ended with {done.returncode}:\n{done.stdout[-2000:]}")


def prompts_of(journal: Path) -> Iterator[dict[str, Any]]:
    """The bodies of all calls, in the order in which their replies came."""
    with sqlite3.connect(journal) as connection:
        segments = dict(connection.execute("SELECT hash, text FROM segments"))
        for prompt, most in connection.execute("SELECT prompt, max_tokens FROM replies ORDER BY rowid"):
            text = "".join(segments[prompt[i : i + 16]] for i in range(0, len(prompt), 16))
            messages = [{"role": "user", "content": text}]
            yield {"model": "sim", "messages": messages, "max_tokens": most, "temperature": 0.01}


async def post(url: str, bodies: list[dict[str, Any]], slots: int = 1) -> None:
    """Nothing but posting: so many workers take the next body until there is none. No body: one empty post."""
    waiting = iter(bodies or [{}])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker() -> None:
            for body in waiting:
                async with session.post(url, data=json.dumps(body).encode()) as response:
                    await response.read()

        await asyncio.gather(*(worker() for _ in range(slots if bodies else 1)))


if __name__ == "__main__":
    main()
