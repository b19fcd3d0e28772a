"""How much of the prompts a prefix cache saves that knows what has been answered, and what it costs to wait for that.

    python benchmarks/warm_prefixes.py --server PATH/judge_server.py --data PATH/longreward_example [--json]

Scores samples of ten candidates on completeness and helpfulness twice on a simulated judge server (that of
score_http.py) with few slots, once as lrf does it and once with no prompt held back. Most providers can use a prompt's
beginning from the cache only once an earlier reply to it has begun or ended; so a character counts as new here unless a
prompt with the same beginning was answered before the call was sent, in blocks of 64 characters. Both runs' times from
first to last call stand beside, as a ratio.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unittest.mock import patch

from many_samples import pipeline, write_samples
from score_http import BLOCK, get, machine, reset, serving

from lrf.config import parse_pipeline
from lrf.engine import event_loop as interpreter
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline

DIMENSIONS = [{"type": "completeness", "chunk_tokens": 512}, "helpfulness"]  # small chunks: a long document's notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the server's script")
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--port", type=int, default=8905)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--samples", type=int, default=40, help="of ten candidates")
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": 300}
    with serving(arguments.server, options) as address, tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder) / "samples.jsonl", arguments.data, arguments.samples, 10, 30_000)
        held_back = run(Path(folder), "held_back", address, arguments.slots)
        with patch("lrf.prompting.templates.LONG_BEGINNING", sys.maxsize):
            at_once = run(Path(folder), "at_once", address, arguments.slots)
    found = {
        "slots": arguments.slots,
        "machine": machine(),
        "held_back": held_back,
        "at_once": at_once,
        "ratio_of_new_characters": round(held_back["new_characters"] / at_once["new_characters"], 3),
        "ratio_of_time": round(held_back["first_to_last_call_s"] / at_once["first_to_last_call_s"], 3),
    }
    print(json.dumps(found, indent=None if arguments.json else 2))


def run(folder: Path, name: str, address: str, slots: int) -> dict[str, Any]:
    reset(address)
    values = {**pipeline(address, slots, []), "dimensions": DIMENSIONS, "name": name}
    catalog = load_catalog()
    parsed = parse_pipeline(values, catalog, folder=folder)
    summary = interpreter.run(run_pipeline(parsed, catalog, folder / "runs"))
    if summary.exit_code:
        sys.exit(summary.message)
    books = get(f"{address}/stats")
    return {
        "calls": books["calls"],
        "characters": books["prompt_chars"],
        "new_characters": new_characters(summary.run_dir / "journal.sqlite"),
        "first_to_last_call_s": round(books["wall_s"], 2),
        "slot_time_used": round(books["busy_s"] / (books["wall_s"] * slots), 3),
    }


def new_characters(journal: Path) -> int:
    """Characters of all prompts that no prompt answered before them begins with."""
    with sqlite3.connect(journal) as connection:
        texts = dict(connection.execute("SELECT hash, text FROM segments"))
        calls = [
            (at - seconds, at, "".join(texts[prompt[i : i + 16]] for i in range(0, len(prompt), 16)))
            for prompt, seconds, at in connection.execute("SELECT prompt, seconds, at FROM replies")
        ]
    events = [(sent, 1, text) for sent, _, text in calls] + [(answered, 0, text) for _, answered, text in calls]
    known: set[bytes] = set()
    new = 0
    for _, sending, text in sorted(events):
        blocks = beginnings(text)
        if sending:
            new += len(text) - BLOCK * next((i for i, block in enumerate(blocks) if block not in known), len(blocks))
        else:
            known.update(blocks)
    return new


def beginnings(text: str) -> list[bytes]:
    """A hash of each beginning of a whole number of blocks."""
    digest, found = blake2b(digest_size=8), []
    for i in range(0, len(text) - BLOCK + 1, BLOCK):
        digest.update(text[i : i + BLOCK].encode())
        found.append(digest.digest())
    return found


if __name__ == "__main__":
    main()
