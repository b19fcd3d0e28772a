"""Submits a Slurm job and waits until it ends: ``python -m lrf_launchers.submit JOB.SBATCH POLL_S``.

SIGTERM, SIGINT and the end of standard input cancel the job. A job that an earlier run left behind (because this
machine crashed, say) is cancelled first: two jobs would write to the same folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

FINAL = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
)
"""Final states of a job."""

MAX_SILENT_POLLS = 20
"""The job is given up after this many polls without an answer from the queue."""

WATCH = "lrf-input"
"""The name of the thread that waits for the end of standard input."""


def main(script: Path, poll_s: float) -> int:
    """The exit code: 0 when the job has completed, 1 otherwise."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_until_input_ends, args=(stop,), name=WATCH, daemon=True).start()

    record = script.with_name("slurm_job.log")
    if record.exists() and (earlier := record.read_text().strip()):
        if _state(earlier) not in FINAL:
            print(f"cancelling job {earlier} of an earlier run", flush=True)
        _cancel_and_wait(earlier, poll_s)
    done = _call("sbatch", "--parsable", str(script))
    if done.returncode:
        print(f"sbatch: {done.stderr.strip()}", flush=True)
        return 1
    job = done.stdout.strip().partition(";")[0]
    record.write_text(f"{job}\n")
    print(f"job {job} is submitted", flush=True)

    state, silent = "", 0
    while not stop.wait(poll_s):
        now = _state(job)
        silent = silent + 1 if now == "" else 0
        if now and now != state:
            print(f"job {job}: {now}", flush=True)
            state = now
        if state in FINAL or silent > MAX_SILENT_POLLS:
            break
    if stop.is_set():
        _cancel_and_wait(job, poll_s)
    else:
        print(f"job {job} ended: {state or 'unknown to Slurm'}", flush=True)
    log = script.with_name(f"slurm-{job}.log")
    if state != "COMPLETED" and log.exists():
        print(log.read_text(errors="replace")[-8192:], flush=True)
    record.unlink(missing_ok=True)
    return 0 if state == "COMPLETED" else 1


def _state(job: str) -> str:
    """The job's state in Slurm's words; empty if neither queue nor accounting answers."""
    queue = _call("squeue", "--noheader", f"--jobs={job}", "--format=%T")
    if queue.returncode == 0 and queue.stdout.strip():
        return queue.stdout.split()[0]
    accounting = _call("sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job}", "--format=State")
    if accounting.returncode == 0 and accounting.stdout.strip():
        return accounting.stdout.split()[0].rstrip("+")  # "CANCELLED by 1000"
    # A job that left the queue of a cluster without accounting: squeue says so by an empty answer or "Invalid job id".
    gone = queue.returncode == 0 or "nvalid job id" in queue.stderr
    return "COMPLETED" if gone and accounting.returncode else ""


def _cancel_and_wait(job: str, poll_s: float) -> None:
    _call("scancel", job)
    pause = threading.Event()
    for _ in range(MAX_SILENT_POLLS):
        if _state(job) in ("", *FINAL):
            return
        pause.wait(min(poll_s, 3))


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    # Processes of the job must not inherit the descriptor of this process's standard input.
    env = {name: value for name, value in os.environ.items() if not name.startswith("LRF_STDIN")}
    try:
        return subprocess.run(  # noqa: S603 - Slurm's own programs
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}")


def _until_input_ends(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
