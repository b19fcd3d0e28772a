"""What `lrf audit` of the quickstart takes, without a key: overlap and the small judge in this process; prints JSON.

    python benchmarks/quickstart_audit.py [--limit 6] [--lengths 1k,4k]

*seconds* is the time that passed, *cpu_seconds* that of all its processes. Then what it found: balanced accuracy of the
reward and of each dimension beside the baselines, the alarms, and how many figures were drawn.
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

PIPELINE = Path(__file__).parents[1] / "examples/quickstart/pipeline.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", default="6", help="sentences to ask about")
    parser.add_argument("--lengths", default="1k,4k", help="tokens of the contexts")
    parser.add_argument("--dimensions", default="faithfulness,completeness", help="of the pipeline; '' for all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "lrf", "audit", str(PIPELINE), "--runs", runs, "--json"]
        command += ["--limit", arguments.limit, "--lengths", arguments.lengths]
        command += [part for name in arguments.dimensions.split(",") if name for part in ("--dimension", name)]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        figures = len(list(Path(runs).glob("quickstart-audit/figures/*.png")))
    used, found = resource.getrusage(resource.RUSAGE_CHILDREN), json.loads(done.stdout)
    accuracies = {name: judge["balanced_accuracy"] for name, judge in found["judges"].items()}
    print(json.dumps({
        **vars(arguments), "machine": machine(), "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "calls": found["price"]["calls"], "figures": figures,
        "balanced_accuracy": accuracies, "alarms": found["alarms"], "not_better_than": found["not_better_than"],
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
