"""Ends vLLM's processes with the process that started them, even if that was killed and could not clean up.

Else the model of a killed run would stay in the GPU's memory. vLLM calls :func:`end_with_parent` in each of its
processes (entry point group ``vllm.general_plugins``).
"""

from __future__ import annotations

import multiprocessing
import os
import threading

SWITCH = "LRF_VLLM_ENDS_WITH_PARENT"


def end_with_parent() -> None:
    """Watch the parent process. Does nothing for a vLLM that lrf didn't start."""
    parent = multiprocessing.parent_process()
    if parent is None or SWITCH not in os.environ:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="lrf-vllm-guard", daemon=True).start()
