"""vLLM's processes end with the one that started them, however that one ends: else a killed run's model would stay
in the GPU's memory. vLLM calls this in each of its processes (the entry point group ``vllm.general_plugins``).
"""

from __future__ import annotations

import multiprocessing
import os
import threading

SWITCH = "LRF_VLLM_ENDS_WITH_PARENT"


def end_with_parent() -> None:
    """Does nothing in processes of a vLLM that lrf didn't start."""
    parent = multiprocessing.parent_process()
    if parent is None or SWITCH not in os.environ:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="lrf-vllm-guard", daemon=True).start()
