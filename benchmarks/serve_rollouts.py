"""Rollouts of many processes through `lrf serve`, beside the batch run of the same candidates; prints JSON.

    python benchmarks/serve_rollouts.py [--processes 8] [--rollouts 8] [--connections 1000] [--requests 20000]

*calls*: one document and question, each process asks for its rollouts one by one, as trainers do; the calls and
embedding requests of the judge, over those of `lrf run` on the same candidates in one sample.
*stopped*: the same on new documents, with a SIGTERM when a third of the answers has come: requests that were begun and
got no whole answer. Those that find the server gone are sent again to the next one, which pays for nothing twice.
*load*: requests of one answer each over so many connections, a judge of 300 ms with 256 slots; the share of slot-time
that is used, over that of clients who ask the judge itself; CPU a request; the server's peak memory when a fifth of the
requests is done and at the end. With one dimension a request is one call, with two it is two.
*own*: fewer requests a second (`--share` of what the slots could do), so that none waits for a slot: how long each took
besides its call.
Judge and clients are processes of their own (`lean_http.py`) that take a tenth of the server's CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from lean_http import LeanJudge, ask, cpu_s_of, percentile
from score_http import machine

import lrf
from judge_server import JudgeServer
from project import SENTENCES
from reward_server import serve_apart

SLOTS = 256
FOUR = ["helpfulness", "logicality", "faithfulness", "completeness"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--folder", help="where runs are: a journal in memory (/dev/shm) shows what the disk takes")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--only", choices=["calls", "stopped", "load", "own"], help="a part of it")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    number = arguments.processes * arguments.rollouts
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.only in (None, "calls"):
            results["calls"] = calls(folder, arguments.processes, arguments.rollouts)
        if arguments.only in (None, "stopped"):
            results["stopped"] = asyncio.run(stopped(folder, number))
            results["stopped_under_load"] = stopped_under_load(folder, arguments.connections)
        if arguments.only in (None, "load"):
            for part, dimensions in (("load", FOUR[:1]), ("load_of_two_calls", FOUR[:2])):
                results[part] = load(folder, arguments.connections, arguments.requests, dimensions)
        if arguments.only in (None, "own"):
            results["own"] = own_time(folder, arguments.connections, arguments.requests // 4, arguments.share)
    results["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(results, indent=None if arguments.json else 2))


def question(number: int, sentences: int = 60) -> dict[str, str]:
    base = 1000 * number + 1000
    text = "".join(SENTENCES.format(n=base + i) for i in range(sentences))
    return {"context": text, "query": f"Which fee does contract {base} name?"}


def answer(number: int) -> str:
    return f"Contract {number} names a fee of {number + 7} euros. It was signed in {number % 90}."


def pipeline_of(folder: Path, name: str, judge: JudgeServer | LeanJudge, dimensions: list[str], **changes: Any) -> Path:
    """A pipeline file (JSON is YAML)."""
    one = {"type": "openai", "base_url": judge.base_url, "model": "sim", "max_concurrency": 64, **changes}
    values = {
        "name": name,
        "judges": {"main": one},
        "embedders": {"main": {"type": "openai", "base_url": judge.base_url, "model": "emb"}},
        "retrievers": {"main": {"type": "memory", "chunk_tokens": 64}},
        "dimensions": dimensions,
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(values))
    return file


# --- as many calls as the batch run ----------------------------------------------------------------------------------


def calls(folder: Path, processes: int, rollouts: int) -> dict[str, Any]:
    judge = started(delay_s=0.05)
    answers = [answer(i) for i in range(processes * rollouts)]
    data = folder / "data.jsonl"
    data.write_text(json.dumps({**question(0), "candidates": [{"text": text} for text in answers]}) + "\n")
    batch = json.loads(pipeline_of(folder, "batch", judge, FOUR).read_text())
    lrf.run({**batch, "data": {"type": "jsonl", "path": str(data)}}, runs=folder / "runs", last="score")
    alone, judge.books = judge.books, type(judge.books)()
    rows = (folder / "runs" / "batch" / "rewards.jsonl").read_text().splitlines()
    expected = {text: json.loads(row)["reward"] for text, row in zip(answers, rows, strict=True)}
    with serve_apart(pipeline_of(folder, "served", judge, FOUR), folder / "runs") as server:
        shares = [answers[i * rollouts : (i + 1) * rollouts] for i in range(processes)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            got = dict(pair for part in pool.starmap(rollout, [(server.url, s) for s in shares]) for pair in part)
    ratio = judge.books.calls / alone.calls
    embedded = {"batch": alone.embedded.total(), "served": judge.books.embedded.total()}
    judge.stop()
    same = got == expected
    return {
        "batch": alone.calls,
        "served": judge.books.calls,
        "ratio": round(ratio, 4),
        "texts": embedded,
        "same": same,
    }


def rollout(url: str, answers: list[str]) -> list[tuple[str, float | None]]:
    """What one process of a training does: it asks for all its rollouts at once, each in a request of its own."""

    async def one(http: aiohttp.ClientSession, text: str) -> tuple[str, float | None]:
        async with http.post(f"{url}/v1/rewards", json={**question(0), "answers": [text]}) as response:
            return text, (await response.json())["rewards"][0]["reward"]

    async def all_of_them() -> list[tuple[str, float | None]]:
        async with aiohttp.ClientSession() as http:
            return await asyncio.gather(*(one(http, text) for text in answers))

    return asyncio.run(all_of_them())


# --- a SIGTERM in the midst ------------------------------------------------------------------------------------------


async def stopped(folder: Path, number: int) -> dict[str, Any]:
    judge = started(delay_s=0.2)
    pipeline, seen = pipeline_of(folder, "stopped", judge, FOUR), Counter[str]()
    third = asyncio.Event()

    async def ask(http: aiohttp.ClientSession, i: int) -> None:
        await asyncio.sleep(0.02 * i)
        body = {**question(i % 8), "answers": [answer(i)]}
        while True:
            try:
                async with http.post(f"{address}/v1/rewards", json=body) as response:
                    seen["answered" if (await response.json())["rewards"][0]["status"] == "scored" else "lost"] += 1
                    break
            except aiohttp.ClientConnectorError:  # nobody listens: it was never begun
                seen["sent_again"] += 1
                await asyncio.sleep(0.2)
            except aiohttp.ClientError:
                seen["lost"] += 1
                break
        if seen["answered"] > number / 3:
            third.set()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        with serve_apart(pipeline, folder / "runs", "--port", "8731") as first:
            address = first.url
            asking = asyncio.gather(*(ask(http, i) for i in range(number)))
            await third.wait()
            code = await asyncio.to_thread(first.stop)
        with serve_apart(pipeline, folder / "runs", "--port", "8731"):
            await asking
    judge.stop()
    return {"requests": number, "lost": seen["lost"], **seen, "exit_code": code, "repeated_calls": judge.books.repeated}


def stopped_under_load(folder: Path, connections: int) -> dict[str, Any]:
    """A SIGTERM while a request is under way on every connection: all are answered, and all calls are kept."""
    judge = LeanJudge(0.3)
    pipeline = pipeline_of(folder, "stopped-load", judge, FOUR[:1], max_concurrency=SLOTS)
    with serve_apart(pipeline, folder / "runs", "--max-open", "100000") as server:

        def stop() -> None:
            while judge.state()["calls"] < SLOTS:
                time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)

        threading.Thread(target=stop).start()
        asked = ask(f"{server.url}/v1/rewards", bodies(20 * connections), connections)
        code = server.process.wait(60)
    calls = judge.state()["calls"]
    judge.stop()
    journal = sqlite3.connect(folder / "runs" / "stopped-load" / "journal.sqlite")
    (kept,) = journal.execute("SELECT count(*) FROM replies").fetchone()
    answered = len(asked.took) - len(asked.failed)
    return {"connections": connections, "answered": answered, "lost": len(asked.failed), "exit_code": code,
            "calls": calls, "replies_kept": kept}  # fmt: skip


# --- many connections ------------------------------------------------------------------------------------------------


def load(folder: Path, connections: int, requests: int, dimensions: list[str]) -> dict[str, Any]:
    """One request after another over each connection, and then the same calls to the judge without a server between."""
    judge = LeanJudge(0.3)
    pipeline = pipeline_of(folder, f"load-{len(dimensions)}", judge, dimensions, max_concurrency=SLOTS)
    rows = bodies(requests)
    fifth = requests // 5
    with serve_apart(pipeline, folder / "runs", "--max-open", "100000") as server:
        address = f"{server.url}/v1/rewards"
        began, used = judge.state(), cpu_s_of(server.process.pid)
        first = ask(address, rows[:fifth], connections)
        memory = [peak_mib(server.process.pid)]
        second = ask(address, rows[fifth:], connections)
        memory.append(peak_mib(server.process.pid))
        used, state = cpu_s_of(server.process.pid) - used, judge.state()
    calls = state["calls"] - began["calls"]
    raw = ask(f"{judge.base_url}/chat/completions", [state["body"]] * min(calls, 20_000), SLOTS)
    judge.stop()
    of_slots = {
        "served": calls * 0.3 / SLOTS / (first.seconds + second.seconds),
        "raw": len(raw.took) * 0.3 / SLOTS / raw.seconds,
    }
    return {
        "requests": requests,
        "connections": connections,
        "calls": calls,
        "failed": len(first.failed) + len(second.failed),
        "slot_time": {name: round(share, 3) for name, share in of_slots.items()},
        "ratio": round(of_slots["served"] / of_slots["raw"], 3),
        "requests_a_second": round(requests / (first.seconds + second.seconds)),
        "cpu_ms_a_request": {
            "server": round(1000 * used / requests, 3),
            "clients": round(1000 * (first.cpu_s + second.cpu_s) / requests, 3),
            "judge": round(1000 * (state["cpu_s"] - began["cpu_s"]) / requests, 3),
        },
        "peak_mib": memory,
    }


def own_time(folder: Path, connections: int, requests: int, share: float) -> dict[str, Any]:
    """Requests so rare that none waits for a slot: what is left of a request's time without the judge's."""
    judge = LeanJudge(0.3)
    pipeline = pipeline_of(folder, "own-time", judge, ["helpfulness"], max_concurrency=SLOTS)
    each_s = connections / (share * SLOTS / 0.3)
    with serve_apart(pipeline, folder / "runs", "--max-open", "100000") as server:
        asked = ask(f"{server.url}/v1/rewards", bodies(requests), connections, each_s=each_s)
    judge.stop()
    own = [took - of_judge for took, of_judge in asked.took]
    return {
        "requests": requests,
        "requests_a_second": round(requests / asked.seconds),
        "failed": len(asked.failed),
        **{f"p{p}_ms": round(1000 * percentile(own, p / 100), 1) for p in (50, 90, 99)},
    }


def bodies(number: int) -> list[bytes]:
    """Requests of one answer each on fifty documents; the judge's words come back with the rewards."""
    rows = ({**question(i % 50), "answers": [answer(i)], "detail": "reasons"} for i in range(number))
    return [json.dumps(row).encode() for row in rows]


def peak_mib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def started(delay_s: float) -> JudgeServer:
    judge = JudgeServer()
    judge.delay_s = delay_s
    judge.start()
    return judge


if __name__ == "__main__":
    main()
