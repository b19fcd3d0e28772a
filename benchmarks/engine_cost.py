"""What the engine costs a call in CPU, and for how long it keeps the event loop from everything else; prints JSON.

    python benchmarks/engine_cost.py --server PATH/judge_server.py --data PATH/longreward_example [--json]

Runs the score stage in this process, with prompts of 7 kB: journal, parsing, rows and files included, starting up not
(what a short run costs is taken off). First with two dimensions that need a judge only, for the CPU a call. Then the
same prompts once more through the client alone, that is judge, limits, retries, parsing and journal, without data,
rows and files; and through a raw aiohttp loop. Then with a heartbeat beside the stage, for the stalls: with the two,
and with all four dimensions, embedding and retrieval included. A stall is the time that a task which wants to run every
millisecond had to wait; beside it stands how much CPU the event loop's thread used from one beat to the next, since on
a busy machine a process also waits for its turn. The server is the one of score_http.py, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from many_samples import FOUR, pipeline, post, prompts_of, write_samples
from score_http import get, machine, serving

from lrf.config import parse_pipeline
from lrf.engine import event_loop as interpreter
from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.errors import UnscorableError
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Rating
from lrf.prompting.templates import Segment
from lrf.stages.runner import run_pipeline
from lrf.store.journal import Journal
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings

TWO = ["helpfulness", "logicality"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8903)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--samples", type=int, default=200, help="of ten candidates")
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": 300}
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as folder:
        found = interpreter.run(measure(arguments, address, Path(folder)))
    found = {"slots": arguments.slots, "machine": machine(), **found}
    print(json.dumps(found, indent=None if arguments.json else 2))


async def measure(arguments: argparse.Namespace, address: str, folder: Path) -> dict[str, Any]:
    # instructions and examples, the question and an answer make prompts of 7 kB
    write_samples(folder / "few.jsonl", arguments.data, 4, 10, 6_000, answer=4_300)
    write_samples(folder / "many.jsonl", arguments.data, arguments.samples, 10, 6_000, answer=4_300)
    await run(folder, "warm", "few.jsonl", address, arguments.slots, FOUR)
    few = await run(folder, "few", "few.jsonl", address, arguments.slots, TWO)
    many = await run(folder, "many", "many.jsonl", address, arguments.slots, TWO)
    bodies = list(prompts_of(folder / "runs" / "many" / "journal.sqlite"))
    cpu = time.process_time()
    await post(f"{address}/v1/chat/completions", bodies, arguments.slots)
    raw_s = time.process_time() - cpu
    client_s, client_calls = await client(f"{address}/v1", bodies, arguments.slots, folder / "client.sqlite")
    found: dict[str, Any] = {
        "calls": many["calls"],
        "prompt_characters_a_call": many["prompt_characters_a_call"],
        "cpu_ms_a_call": round(1000 * (many["cpu_s"] - few["cpu_s"]) / (many["calls"] - few["calls"]), 3),
        "cpu_ms_a_call_of_the_client": round(1000 * client_s / client_calls, 3),
        "cpu_ms_a_call_of_a_raw_loop": round(1000 * raw_s / len(bodies), 3),
    }
    for name, dimensions in (("two_dimensions", TWO), ("four_dimensions", FOUR)):
        beat = Heartbeat()
        beating = asyncio.create_task(beat.run())
        await run(folder, name, "many.jsonl", address, arguments.slots, dimensions, beat.heard)
        beating.cancel()
        found[name] = beat.figures()
    return found


async def run(
    folder: Path,
    name: str,
    data: str,
    address: str,
    slots: int,
    dimensions: list[str],
    report: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    values = {**pipeline(address, slots, dimensions), "name": name, "data": {"type": "jsonl", "path": data}}
    catalog = load_catalog()
    parsed = parse_pipeline(values, catalog, folder=folder)
    before = get(f"{address}/stats")
    cpu = time.process_time()
    summary = await run_pipeline(parsed, catalog, folder / "runs", report=report)
    cpu = time.process_time() - cpu
    if summary.exit_code:
        sys.exit(summary.message)
    books = get(f"{address}/stats")
    calls = books["calls"] - before["calls"]
    characters = books["prompt_chars"] - before["prompt_chars"]
    return {"calls": calls, "prompt_characters_a_call": round(characters / calls), "cpu_s": cpu}


async def client(url: str, bodies: Sequence[Mapping[str, Any]], slots: int, journal_path: Path) -> tuple[float, int]:
    """Seconds of CPU and calls for asking all these prompts for ratings, each committed to a journal of its own."""
    judge = OpenAIJudge(OpenAIJudgeSettings(base_url=url, model="sim", max_concurrency=slots, request_timeout_s=120))
    journal = Journal(journal_path)
    ledger = BudgetLedger()
    calls = JudgeCalls("main", judge, journal, ledger)
    waiting = enumerate(bodies)

    async def worker() -> None:
        for position, body in waiting:
            (message,) = body["messages"]
            instructions, turn, material = message["content"].partition("### Your turn")
            prompt = (Segment(instructions + turn), Segment(material, trusted=False))
            caller = Caller(f"sample-{position}", "helpfulness", position)
            with contextlib.suppress(UnscorableError):
                await calls.ask(Asked(prompt, Rating(), body["max_tokens"], caller))

    with interpreter.tuned():
        cpu = time.process_time()
        await asyncio.gather(*(worker() for _ in range(2 * slots)))
        cpu = time.process_time() - cpu
    await calls.aclose()
    await asyncio.to_thread(journal.close)
    return cpu, ledger.total().calls


class Heartbeat:
    """Wants to run every millisecond, and notes how late it was and what CPU this process used meanwhile."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, float]] = []
        self._scoring = False

    def heard(self, progress: Mapping[str, Any]) -> None:
        """Samples are being scored from the first report that counts them until the one that has counted all."""
        scoring = "in_flight" in progress and progress["samples"] < progress["of_samples"]
        if scoring and not self._scoring:
            self.beats.clear()
        self._scoring = scoring

    async def run(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            if self._scoring or not self.beats:
                self.beats.append((time.perf_counter() - wall - 0.001, time.thread_time() - cpu))

    def figures(self) -> dict[str, Any]:
        late, busy = (sorted(column, reverse=True) for column in zip(*self.beats, strict=True))
        return {
            "longest_stall_ms": round(1000 * late[0], 1),
            "stall_p999_ms": round(1000 * late[len(late) // 1000], 1),
            "stalls_above_20_ms": sum(s > 0.02 for s in late),
            "longest_cpu_between_beats_ms": round(1000 * busy[0], 1),
            "cpu_between_beats_p999_ms": round(1000 * busy[len(busy) // 1000], 1),
        }


if __name__ == "__main__":
    main()
