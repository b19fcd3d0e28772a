"""How often this process's line was forked: asking the system for the process at each call costs a microsecond."""

from __future__ import annotations

import os

count = 0


def _note_fork() -> None:
    global count
    count += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_note_fork)


def end_child(whose: str) -> None:
    """End this process, which was forked from a run and has come back into it: the run is its parent's."""
    said = f"lrf: {whose} forked the run's process and let the child return; the child is ended, and the run goes on\n"
    os.write(2, said.encode(errors="backslashreplace"))
    os._exit(1)
