"""What a child process says to the process that started it, and how both notice that the other is gone.

A child says lines of JSON: any number of ``{"progress": …}``, then one ``{"result": …}`` or ``{"error": …,
"exit_code": …}``; a stage's process first ``{"ready": true}``, once it can be interrupted. The lines go through a pipe
(a stage in a process of its own) or through a file (a process of a training, which may be on another machine). A line
that isn't whole counts as not said.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lrf.errors import LrfError, RunInterruptedError, StageError
from lrf.stages.run_dir import said_by_system
from lrf.stages.stage import StageStoppedError
from lrf.stages.summary import full_message
from lrf.store.files import dump
from lrf.text.redaction import redact
from lrf.types import JSON

LAST_LINES, LAST_BYTES = 20, 1 << 14

Report = Callable[[Mapping[str, JSON]], None]


# --- in the child -----------------------------------------------------------------------------------------------


class Channel:
    """The child's end. Any thread may use it. Secrets are taken out of what it says."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, **message: JSON) -> None:
        with self._lock:
            self._out.write(redact(dump(message)) + "\n")
            self._out.flush()

    def progress(self, message: Mapping[str, JSON]) -> None:
        self.say(progress=dict(message))


def answer(channel: Channel, work: Callable[[], JSON], run_dir: Path, name: str) -> int:
    """Do the work and say its result or its error; returns the exit code of the process.

    A fault of the code itself is only printed: the parent then shows the last lines that were printed.
    """
    partial: dict[str, JSON] = {}
    try:
        channel.say(result=work())
        return 0
    except StageStoppedError as stopped:
        error, partial = stopped.reason, {"partial": stopped.result.as_json()}
    except LrfError as raised:
        error = raised
    except OSError as raised:
        error = StageError(f"{name}: {said_by_system(raised, run_dir)}")
        traceback.print_exc()
    except KeyboardInterrupt:
        error = RunInterruptedError(f"{name} was stopped")
    except Exception:
        traceback.print_exc()
        return 1
    channel.say(error=full_message(error), exit_code=error.exit_code, **partial)
    return error.exit_code


def end_with_parent() -> None:
    """From now on, end this process when its standard input ends: the process that started it is gone."""

    def wait() -> None:
        while os.read(0, 4096):  # sys.stdin's lock, held at the interpreter's end, would be a fatal error
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# --- in the parent ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Messages:
    """The parent's end: what a child has said so far. ``report`` gets its progress; ``ready``: it said anything."""

    report: Report = lambda _: None
    ready: bool = False
    result: JSON = None
    error: LrfError | None = None
    partial: Mapping[str, JSON] | None = None
    _rest: bytes = b""

    def feed(self, part: bytes) -> None:
        """Take in more of what the child has written."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            self.ready = True
            match message:
                case {"progress": dict(progress)}:
                    self.report(progress)
                case {"result": dict(result)}:
                    self.result = result
                case {"error": str(text), "exit_code": int(exit_code)}:
                    self.error = StageError(text)
                    self.error.exit_code = exit_code
                    self.partial = message.get("partial")


def how_it_ended(code: int) -> str:
    """How a process with this return code ended, in words."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def last_lines(printed: bytes) -> str:
    """The last lines of what a process printed, indented."""
    lines = printed[-LAST_BYTES:].decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    return "\n".join(f"  {line.rstrip()}" for line in lines) or "  (it printed nothing)"
