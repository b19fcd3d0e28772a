"""Scores LongReward's public example on a simulated judge server, and prints what the server's books say, as JSON.

    python benchmarks/score_http.py --server PATH/judge_server.py --data PATH/longreward_example

The server is a script that takes --port, --slots, --base-ms and --decode-us, answers OpenAI's protocol and keeps books
at /stats (calls, wall_s, busy_s, prompt_chars, cached_chars, embed_calls, embed_texts). The pipeline is
tests/pipelines/score-http.yaml. A figure is comparable only with the same server and the same settings.

How many characters would be new to the cache if prompts had the statement before its evidence, or besides the answer
before the notes, is reckoned from the run's own prompts, in the order in which their replies came, as the server does:
a cache of blocks of 64 characters. So are how many would be new if evidence began with the passages that most
statements have, in place of the document's order, and how often what several prompts begin with (instructions and
examples, notes) was new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import lrf

PIPELINE = Path(__file__).parents[1] / "tests" / "pipelines" / "score-http.yaml"


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
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as runs:
        summary = lrf.run(pipeline(address, arguments.data.resolve()), runs=runs, last="score")
        if summary.exit_code:
            sys.exit(summary.message)
        books = get(f"{address}/stats")
        prompts = prompts_of(summary.run_dir / "journal.sqlite")
    print(
        json.dumps(
            {"settings": options, "machine": machine(), **figures(books, summary), **prefixes(prompts)}, indent=2
        )
    )


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
    counts = {"candidates": score["candidates"], "unscored": score["unscored"]}
    return {**counts, **figures_of(books), "run_s": round(summary.seconds, 2)}


def figures_of(books: dict[str, Any]) -> dict[str, Any]:
    mean_call_s = books["busy_s"] / books["calls"]
    return {
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
    }


BLOCK = 64  # characters, as the server has it
Prompt = tuple[str, tuple[str, ...]]


def prompts_of(journal: Path) -> list[Prompt]:
    """(kind, segments) of every call, in the order in which the replies came."""
    with sqlite3.connect(journal) as connection:
        texts = dict(connection.execute("SELECT hash, text FROM segments"))
        return [
            (kind, tuple(texts[prompt[i : i + 16]] for i in range(0, len(prompt), 16)))
            for kind, prompt in connection.execute("SELECT kind, prompt FROM replies ORDER BY rowid")
        ]


def prefixes(prompts: Sequence[Prompt]) -> dict[str, Any]:
    statements = [(kind, last_first(texts) if kind == "verdict" else texts) for kind, texts in prompts]
    answers = [(kind, last_first(texts) if kind == "rating" else texts) for kind, texts in statements]
    orders = (prompts, statements, answers, common_first(prompts))
    as_sent, otherwise, both, common = (sum(sum(new) for new in new_characters(order)) for order in orders)
    paths = Counter(texts[: i + 1] for _, texts in prompts for i in range(len(texts)))
    new: Counter[tuple[str, ...]] = Counter()
    for (_, texts), of_segments in zip(prompts, new_characters(prompts), strict=True):
        for i, characters in enumerate(of_segments):
            new[texts[: i + 1]] += characters
    shared = [path for path, times in paths.items() if times > 1 and len(path[-1]) >= 4 * BLOCK]
    # a block that a beginning ends in goes on differently in each prompt, so it is new each time
    once = sum(new[path] < len(path[-1]) + BLOCK * paths[path] for path in shared)
    return {
        "new_characters_reckoned": as_sent,
        "new_characters_with_statements_first": otherwise,
        "ratio_to_statements_first": round(as_sent / otherwise, 3),
        "new_characters_with_statements_and_answers_first": both,
        "ratio_to_statements_and_answers_first": round(as_sent / both, 3),
        "ratio_to_statements_first_if_common_passages_came_first": round(common / otherwise, 3),
        "long_beginnings_that_prompts_share": len(shared),
        "of_them_computed_once": once,
    }


def last_first(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The prompt with the statement or answer before the evidence, notes and question; instructions stay in front."""
    return (texts[0], *texts[-2:], *texts[1:-2])


def common_first(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with each statement's passages in the order of how many statements have them."""
    texts_of = {texts: re.split(r"(?:^|\n\n)\[\d+\]", texts[1])[1:] for kind, texts in prompts if kind == "verdict"}
    times = Counter(passage for passages in texts_of.values() for passage in passages)
    found = []
    for kind, texts in prompts:
        if kind == "verdict":
            ordered = sorted(texts_of[texts], key=lambda passage: (-times[passage], passage))
            evidence = "\n\n".join(f"[{n}]{passage}" for n, passage in enumerate(ordered, start=1))
            texts = (texts[0], evidence, *texts[2:])
        found.append((kind, texts))
    return found


def new_characters(prompts: Sequence[Prompt]) -> list[list[int]]:
    """For each prompt, how many characters of each of its segments are new to a cache of all before."""
    known: set[bytes] = set()
    found = []
    for _, texts in prompts:
        text = "".join(texts)
        digest, hit = hashlib.blake2b(digest_size=8), 0
        for i in range(0, len(text) - BLOCK + 1, BLOCK):
            digest.update(text[i : i + BLOCK].encode())
            if hit == i and digest.digest() in known:
                hit += BLOCK
            known.add(digest.digest())
        end, of_segments = 0, []
        for segment in texts:
            end += len(segment)
            of_segments.append(max(0, min(len(segment), end - hit)))
        found.append(of_segments)
    return found


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "lrf": lrf.__version__}


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        books: dict[str, Any] = json.load(response)
        return books


def reset(address: str) -> None:
    """Empty the server's books and its prefix cache."""
    urllib.request.urlopen(urllib.request.Request(f"{address}/reset", method="POST"), timeout=10).close()


@contextmanager
def serving(script: Path, options: Mapping[str, float]) -> Iterator[str]:
    """The address of the server while it runs; ``options`` are the script's, with a port."""
    server = subprocess.Popen([sys.executable, str(script), *(f"--{name}={value}" for name, value in options.items())])
    address = f"http://127.0.0.1:{options['port']}"
    try:
        wait_for(f"{address}/stats", server)
        yield address
    finally:
        server.terminate()
        server.wait()


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
