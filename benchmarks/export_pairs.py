"""How fast `lrf export` writes small pairs, and in how much memory; prints JSON.

python benchmarks/export_pairs.py [--pairs 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from score_http import machine

PAIR = {
    "prompt": [{"role": "user", "content": "How did the council vote on the tram line?"}],
    "chosen": [{"role": "assistant", "content": "It closed the line, seven to two."}],
    "rejected": [{"role": "assistant", "content": "It kept the line."}],
    "sample_id": "s", "chosen_id": "a", "rejected_id": "b", "chosen_reward": 7.75, "rejected_reward": 2.5,
    "chosen_ratings": {"helpfulness": 8.0}, "rejected_ratings": {"helpfulness": 3.0}, "prompt_template_sha256": None,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="one line")
    arguments = parser.parse_args()
    results: dict[str, object] = {"machine": machine(), "pairs": arguments.pairs}
    with tempfile.TemporaryDirectory() as folder:
        for number in (arguments.pairs // 10, arguments.pairs):
            line = json.dumps(PAIR) + "\n"
            with (Path(folder) / "pairs.jsonl").open("w") as file:
                file.writelines(line for _ in range(number))
            for name in ("trl", "ms_swift"):
                began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                command = [sys.executable, "-m", "lrf", "export", folder, "--format", name]
                subprocess.run(command, check=True, capture_output=True)
                seconds = time.monotonic() - began
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                results[f"{name} {number}"] = {
                    "rows_a_second": round(number / seconds),
                    "rows_a_cpu_second": round(number / (used.ru_utime - before)),
                    "peak_mib": used.ru_maxrss // 1024,  # of the largest process so far
                }
    print(json.dumps(results, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
