"""The display of a run's progress: one moving region on a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lrf.cli.progress_line import TimeLeft, line_of
from lrf.stages.progress import Progress

if TYPE_CHECKING:
    from rich.live import Live

EVERY_S, EVERY_SHARE = 10.0, 0.05
"""In a pipe, a line comes when this many seconds and this share of the samples have both gone by since the last one."""
LONG_WAIT_S = 5.0
"""In a pipe, a wait of this many seconds until the next try is worth a line of its own."""
HEARTBEAT_S = 600.0
"""In a pipe, the longest time without a line while a stage works."""


class Surface(Protocol):
    """Where lines are shown. Its methods raise nothing, so that a run continues when nobody reads its progress."""

    def say(self, line: str) -> None:
        """Show a line that stays."""
        ...

    def update(self, p: Progress, line: str) -> None:
        """Show the line of a stage's newest message in place of the one before."""
        ...

    def finish(self, line: str) -> None:
        """Keep the last line of a stage that has ended."""
        ...


@contextmanager
def progress() -> Iterator[Display]:
    """The display on standard error. It takes progress messages from any thread until the block ends."""
    sys.stdout.flush()
    if not sys.stderr.isatty():
        display = Display(Lines())
        yield display
        display.finish()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        display = Display(Region(live))
        yield display
        display.finish()


@dataclass(slots=True)
class Display:
    """Turns progress messages into lines on a surface.

    ``planned_calls`` is how many calls each stage was planned to pay for, where that is known.
    """

    surface: Surface
    planned_calls: dict[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _last: Progress | None = None
    _time_left: TimeLeft | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Show a message: the JSON of a :class:`lrf.stages.progress.Progress`."""
        p = Progress.from_json(message)
        with self._lock:
            if p.event != "stopping" and self._last and self._last.stage != p.stage:
                self._finish()
            if p.event or p.note:
                self.surface.say(line_of(p))
            else:
                self._update(p)

    def say(self, line: str) -> None:
        """Show a line that stays."""
        with self._lock:
            self.surface.say(line)

    def finish(self) -> None:
        """Keep the last line of the stage that was shown last."""
        with self._lock:
            self._finish()

    def _update(self, p: Progress) -> None:
        planned = self.planned_calls.get(p.stage)
        if self._time_left is None:
            self._time_left = TimeLeft(planned, self.clock)
        self._last = p
        self.surface.update(p, line_of(p, planned, self._time_left.seconds(p)))

    def _finish(self) -> None:
        if self._last is not None:
            self.surface.finish(line_of(self._last, self.planned_calls.get(self._last.stage)))
        self._last = self._time_left = None


@dataclass(slots=True)
class Region:
    """A region at the end of a terminal that changes in place; what stays is printed above it."""

    live: Live

    def say(self, line: str) -> None:
        with suppress(OSError):
            self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, p: Progress, line: str) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shown = Table.grid(padding=(0, 1))
        if p.samples is not None and p.of_samples:
            shown.add_row(ProgressBar(total=p.of_samples, completed=p.samples, width=20), Text(line))
        else:
            shown.add_row(Text(line))
        with suppress(OSError):
            self.live.update(shown)

    def finish(self, line: str) -> None:
        from rich.text import Text

        self.say(line)
        with suppress(OSError):
            self.live.update(Text(""))


@dataclass(slots=True)
class Lines:
    """Plain lines on standard error, not too many of them and in order."""

    clock: Callable[[], float] = time.monotonic
    _shown: str = ""
    _shown_at: float = float("-inf")
    _shown_share: float = 0.0
    _trouble: object = None

    def say(self, line: str) -> None:
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def update(self, p: Progress, line: str) -> None:
        now = self.clock()
        since, share = now - self._shown_at, (p.samples or 0) / (p.of_samples or 1)
        trouble = ([w.name for w in p.waits if w.for_s >= LONG_WAIT_S], p.stall is not None and p.stall.judge)
        news = share - self._shown_share >= EVERY_SHARE or p.of_samples is None or trouble != self._trouble
        if (news and since >= EVERY_S) or since >= HEARTBEAT_S:
            self._shown, self._shown_at, self._shown_share, self._trouble = line, now, share, trouble
            self.say(line)

    def finish(self, line: str) -> None:
        if line != self._shown:
            self.say(line)
        self._shown, self._shown_at, self._shown_share, self._trouble = "", float("-inf"), 0.0, None
