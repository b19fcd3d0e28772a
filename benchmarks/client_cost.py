"""What a judge call costs this process in CPU: lrf's client beside a raw ``aiohttp`` loop over the same calls.

    python benchmarks/client_cost.py [--calls 5000] [--in-flight 256] [--kilobytes 7] [--url http://…/v1]

Without ``--url`` a small server runs in a process of its own, so that only the client's CPU is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import aiohttp
from aiohttp import web

from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings

REPLY = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Analysis: on topic. " * 20 + "Rating: [[7]]"},
            }
        ],
        "usage": {"prompt_tokens": 1800, "completion_tokens": 90, "prompt_tokens_details": {"cached_tokens": 0}},
    }
).encode()


def serve(pipe: Connection) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(0.1)
        return web.Response(body=REPLY, content_type="application/json")

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def measure(name: str, call: Callable[[str], Awaitable[object]], prompts: list[str], in_flight: int) -> float:
    """Milliseconds of this process's CPU a call."""
    waiting = iter(prompts)

    async def worker() -> None:
        for prompt in waiting:
            await call(prompt)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    a_call = 1000 * cpu / len(prompts)
    print(f"{name:12} {a_call:6.3f} ms of CPU a call, {len(prompts) / wall:6.0f} calls/s")
    return a_call


async def compare(url: str, calls: int, in_flight: int, kilobytes: float) -> None:
    prompts = [f"{i}: " + "The harbour was rebuilt. " * int(kilobytes * 40) for i in range(calls)]
    judge = OpenAIJudge(OpenAIJudgeSettings(base_url=url, model="sim", max_concurrency=in_flight))

    async def ours(prompt: str) -> None:
        await judge.complete(Request((Segment(prompt),), Rating(), max_tokens=512, temperature=0.01))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def raw(prompt: str) -> None:
            body = {"model": "sim", "messages": [{"role": "user", "content": prompt}], "max_tokens": 512}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                (await response.json())["choices"][0]["message"]["content"]

        for call in (raw, ours):  # connections are opened before anything is counted
            await asyncio.gather(*(call("x") for _ in range(in_flight)))
        plain = await measure("raw aiohttp", raw, prompts, in_flight)
        own = await measure("lrf", ours, prompts, in_flight)
    await judge.aclose()
    print(f"{'difference':12} {own - plain:+6.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--kilobytes", type=float, default=7)
    parser.add_argument("--url")
    options = parser.parse_args()
    server = None
    url = options.url
    if url is None:
        here, there = multiprocessing.get_context("spawn").Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{here.recv()}/v1"
    asyncio.run(compare(url, options.calls, options.in_flight, options.kilobytes))
    if server is not None:
        server.terminate()


if __name__ == "__main__":
    main()
