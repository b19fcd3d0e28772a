"""LongReward's public scorer and lrf, one after the other, on one simulated judge server; prints JSON.

    git clone https://github.com/THUDM/LongReward
    python benchmarks/beside_longreward.py --checkout LongReward --server PATH/judge_server.py [--json]

Both score the public example (ten answers about one document, four dimensions). The public code runs as it is in its
checkout, in an interpreter (--python) that has what it requires, and quicktok-v1: notes first, then ten processes, an
answer each, as its scripts do. Only three things are put in its place: its addresses are the server's, its tokenizer
(which would be downloaded) is o200k_base, and there is a process for each answer instead of pools of 100 and 200. The
server is the one of score_http.py and keeps the same books of both; its prefix cache is emptied in between.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from score_http import figures_of, get, machine, pipeline, reset, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="the folder of the public code")
    parser.add_argument("--server", type=Path, help="the server's script")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the public code's requirements")
    parser.add_argument("--port", type=int, default=8905)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--base-ms", type=float, default=300.0)
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    if arguments.inside:
        return print(json.dumps(public_scorer(checkout, arguments.inside)))
    options = {"port": arguments.port, "slots": arguments.slots, "base-ms": arguments.base_ms}
    with serving(arguments.server, options) as address:
        ours = lrf_run(address, checkout / "data" / "example")
        reset(address)
        command = [arguments.python, __file__, f"--checkout={checkout}", f"--inside={address}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        theirs = {**figures_of(get(f"{address}/stats")), **json.loads(done.stdout.splitlines()[-1])}
    found = {"settings": options, "machine": machine(), "lrf": ours, "public_scorer": theirs}
    print(json.dumps(found, indent=None if arguments.json else 2))


def lrf_run(address: str, example: Path) -> dict[str, Any]:
    """A run as a user starts it, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_text(yaml.safe_dump(pipeline(address, example)), encoding="utf-8")
        command = [sys.executable, "-m", "lrf", "run", str(file), "--runs", folder, "--until", "score"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        summary = json.loads((Path(folder) / "score-http" / "summary.json").read_text(encoding="utf-8"))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the server's is less
    scored = summary["stages"]["score"]["scored"]
    return {**figures_of(get(f"{address}/stats")), "scored": scored, "largest_process_mib": round(memory, 1)}


def public_scorer(checkout: Path, address: str) -> dict[str, Any]:
    """Runs the public scorer; its own functions, from its own checkout."""
    import multiprocessing
    import multiprocessing.pool

    import requests
    import transformers
    from quicktok import Tokenizer

    tokens = Tokenizer("o200k_base")

    class Stand:
        """In the tokenizer's place."""

        encode = staticmethod(lambda text, **_: tokens.encode(text))
        decode = staticmethod(lambda ids, **_: tokens.decode(ids))

    transformers.AutoTokenizer.from_pretrained = lambda *_, **__: Stand
    post = requests.post

    def to_the_server(url: str, **more: Any) -> Any:
        return post(f"{address}/v1/{'embeddings' if 'embeddings' in url else 'chat/completions'}", **more)

    requests.post = to_the_server
    sys.path.insert(0, str(checkout))
    from long_reward.auto_scorer import get_all_score, get_chunk_info

    rows = [json.loads(line) for line in (checkout / "data/example/sft.jsonl").read_text().splitlines()]
    lines = (checkout / "data/example/sampled_responses.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    named = {row["idx"]: row for row in rows}
    wanted = {int(answer["idx"].split("-")[-2]) for answer in answers}
    notes = {idx: get_chunk_info(named[idx]["context"], named[idx]["query"], chunk_size=4096) for idx in wanted}

    def score(answer: dict[str, Any], results: Any) -> None:
        idx = int(answer["idx"].split("-")[-2])
        row = get_all_score(named[idx]["context"], answer["query"], answer["answer"], answer["idx"], notes[idx])
        results.put((row["scores"]["total"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    fork = multiprocessing.get_context("fork")  # as its scripts do where they were written
    results = fork.Queue()
    processes = [fork.Process(target=score, args=(answer, results)) for answer in answers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [results.get() for _ in range(sum(p.exitcode == 0 for p in processes))]
    return {"scored": len(found), "largest_process_mib": round(max(mib for _, mib in found), 1)}


if __name__ == "__main__":
    main()
