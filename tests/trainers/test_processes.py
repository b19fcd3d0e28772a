"""The processes of a training end without harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import atexit
from pathlib import Path
import torch
from torch import distributed
def threads():
    return sum("gloo" in (each / "comm").read_text() for each in Path("/proc/self/task").iterdir())
atexit.register(lambda: print(threads()))
from lrf_training import processes
distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
distributed.all_reduce(torch.tensor(1), group=processes._patient_group())
print(threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads under /proc")
def test_the_groups_threads_end_before_the_interpreter_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    held, left = map(int, done.stdout.split())
    assert held > 0
    assert left == 0
