"""Rollouts of many processes through `lrf serve`, beside the batch run of the same candidates; prints JSON.

    python benchmarks/serve_rollouts.py [--processes 8] [--rollouts 8] [--connections 256] [--requests 4000]

*calls*: one document and question, each process asks for its rollouts one by one, as trainers do; the calls and
embedding requests of the judge, over those of `lrf run` on the same candidates in one sample.
*stopped*: the same on new documents, with a SIGTERM when a third of the answers has come: requests that were begun and
got no whole answer. Those that find the server gone are sent again to the next one, which pays for nothing twice.
*load*: requests of one answer each over so many connections, one dimension, a judge of 300 ms with 256 slots; the share
of slot-time that is used, over that of an aiohttp loop which posts as many calls itself; the server's peak memory when
a fifth of the requests is done and at the end. Judge and clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from score_http import machine

import lrf
from judge_server import JudgeServer
from project import SENTENCES
from reward_server import serve_apart

FOUR = ["helpfulness", "logicality", "faithfulness", "completeness"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--requests", type=int, default=4000)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    number = arguments.processes * arguments.rollouts
    with tempfile.TemporaryDirectory() as folder:
        results["calls"] = calls(Path(folder), arguments.processes, arguments.rollouts)
        results["stopped"] = asyncio.run(stopped(Path(folder), number))
        results["load"] = asyncio.run(load(Path(folder), arguments.connections, arguments.requests))
    print(json.dumps(results, indent=2))


def question(number: int, sentences: int = 60) -> dict[str, str]:
    base = 1000 * number + 1000
    text = "".join(SENTENCES.format(n=base + i) for i in range(sentences))
    return {"context": text, "query": f"Which fee does contract {base} name?"}


def answer(number: int) -> str:
    return f"Contract {number} names a fee of {number + 7} euros. It was signed in {number % 90}."


def pipeline_of(folder: Path, name: str, judge: JudgeServer, dimensions: list[str], **changes: Any) -> Path:
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


# --- many connections ------------------------------------------------------------------------------------------------


async def load(folder: Path, connections: int, requests: int) -> dict[str, Any]:
    judge = started(delay_s=0.3)
    pipeline = pipeline_of(folder, "load", judge, ["helpfulness"], max_concurrency=256)
    memory: list[int] = []
    asked = [{**question(i % 50), "answers": [answer(i)]} for i in range(requests)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as http:
        with serve_apart(pipeline, folder / "runs", "--max-open", "100000") as server:

            async def reward(body: Any) -> None:
                async with http.post(f"{server.url}/v1/rewards", json=body) as response:
                    assert (await response.json())["rewards"][0]["status"] == "scored"
                if len(done) in (requests // 5, requests - 1):
                    memory.append(peak_mib(server.process.pid))
                done.append(None)

            done: list[None] = []
            served_s = await timed(reward, asked)
        prompts = list(judge.books.prompts)[:requests]

        async def post(prompt: str) -> None:
            body = {"model": "sim", "messages": [{"role": "user", "content": prompt + "."}], "max_tokens": 512}
            async with http.post(f"{judge.base_url}/chat/completions", json=body) as response:
                await response.read()

        raw_s = await timed(post, prompts, at_once=256)
    judge.stop()
    used = {name: round(requests * 0.3 / 256 / s, 3) for name, s in (("served", served_s), ("raw", raw_s))}
    return {"requests": requests, "connections": connections, "slot_time": used, "ratio": round(raw_s / served_s, 3),
            "peak_mib": memory}  # fmt: skip


async def timed(work: Any, items: list[Any], at_once: int = 10**6) -> float:
    began, slots = time.monotonic(), asyncio.Semaphore(at_once)

    async def one(item: Any) -> None:
        async with slots:
            await work(item)

    await asyncio.gather(*map(one, items))
    return time.monotonic() - began


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
