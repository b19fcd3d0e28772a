"""Scores LongReward's public example on a simulated judge server, and prints what the server's books say, as JSON.

    python tests/benchmarks/score_http.py --server PATH/judge_server.py --data PATH/longreward_example

The server is a script that takes --port, --slots, --base-ms and --decode-us, answers OpenAI's protocol and keeps books
at /stats (calls, wall_s, busy_s, prompt_chars, cached_chars, embed_calls, embed_texts). The pipeline is
tests/pipelines/score-http.yaml. A figure is comparable only with the same server and the same settings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

import lrf

PIPELINE = Path(__file__).parents[1] / "pipelines" / "score-http.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--base-ms", type=float, default=300.0)
    parser.add_argument("--decode-us", type=float, default=2000.0, help="for each token of output")
    arguments = parser.parse_args()
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": arguments.base_ms}
    options["decode-us"] = arguments.decode_us
    command = [sys.executable, str(arguments.server), *(f"--{name}={value}" for name, value in options.items())]
    address = f"http://127.0.0.1:{arguments.port}"
    server = subprocess.Popen(command)
    try:
        wait_for(f"{address}/stats", server)
        with tempfile.TemporaryDirectory() as runs:
            summary = lrf.run(pipeline(address, arguments.data.resolve()), runs=runs, last="score")
        if summary.exit_code:
            sys.exit(summary.message)
        books = get(f"{address}/stats")
    finally:
        server.terminate()
        server.wait()
    print(json.dumps({"settings": options, "machine": machine(), **figures(books, summary)}, indent=2))


def pipeline(address: str, data: Path) -> dict[str, Any]:
    """The pipeline, with the server's address and the data's place."""
    values: dict[str, Any] = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    values["data"] |= {"documents": str(data / "sft.jsonl"), "candidates": str(data / "sampled_responses.jsonl")}
    for block in (*values["judges"].values(), *values["embedders"].values()):
        block["base_url"] = f"{address}/v1"
    return values


def figures(books: dict[str, Any], summary: Any) -> dict[str, Any]:
    """What the server's books say, and how long it took in calls of mean length: 1 would be all calls at once."""
    score = summary.stages["score"]
    mean_call_s = books["busy_s"] / books["calls"]
    return {
        "candidates": score["candidates"],
        "unscored": score["unscored"],
        "judge_calls": books["calls"],
        "repeated_prompts": books["repeated_prompts"],
        "embedding_requests": books["embed_calls"],
        "embedded_texts": books["embed_texts"],
        "prompt_characters": books["prompt_chars"],
        "prompt_characters_new_to_a_prefix_cache": books["prompt_chars"] - books["cached_chars"],
        "first_to_last_call_s": round(books["wall_s"], 2),
        "mean_call_s": round(mean_call_s, 3),
        "first_to_last_call_in_mean_calls": round(books["wall_s"] / mean_call_s, 1),
        "mean_slots_busy": round(books["busy_s"] / books["wall_s"], 1),
        "run_s": round(summary.seconds, 2),
    }


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "lrf": lrf.__version__}


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        books: dict[str, Any] = json.load(response)
        return books


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"the server ended with exit code {server.returncode}")
        try:
            get(url)
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit("the server doesn't answer")


if __name__ == "__main__":
    main()
