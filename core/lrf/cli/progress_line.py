"""One line of text for a progress message: what is done of what is planned, time left, money, waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lrf.cli.output import clean
from lrf.stages.progress import BudgetUse, Progress, Stall, Waiting

WINDOW_S = 180.0
"""The time left follows from what was done within this many seconds."""
SHORTEST_WINDOW_S = 20.0
FEWEST_DONE = 5
"""No time left is given from fewer calls or samples than this."""


@dataclass(slots=True)
class TimeLeft:
    """Estimates when a stage ends from the calls (or samples) of the last minutes."""

    planned_calls: int | None = None
    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    def seconds(self, p: Progress) -> float | None:
        """Seconds until the end, or None while too little was done to say. Takes ``p`` in."""
        now, calls, samples = self.clock(), p.calls or 0, p.samples or 0
        self._seen.append((now, calls, samples))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        then, calls_then, samples_then = self._seen[0]
        if now - then < SHORTEST_WINDOW_S:
            return None
        if self.planned_calls is not None and self.planned_calls > calls:
            done, left = calls - calls_then, self.planned_calls - calls
        else:
            done, left = samples - samples_then, (p.of_samples or 0) - samples
        if done < FEWEST_DONE or left <= 0:
            return None
        return max(left * (now - then) / done, *(wait.for_s for wait in p.waits), 0.0)


def line_of(p: Progress, planned_calls: int | None = None, seconds_left: float | None = None) -> str:
    """The line of a message, without what could steer a terminal."""
    if p.event or p.note:
        return clean(p.note) if p.note else f"{p.stage}: {EVENTS[p.event]}"
    if p.figures:
        return clean(f"{p.stage}: {_figures(p.figures)}")
    parts = [
        _done(p.samples, p.of_samples, "samples"),
        _done(p.candidates, p.of_candidates, "candidates"),
        _done(p.pairs, None, "pairs"),
        _counts((p.unscored, "unscored"), (p.left_out, "left out"), (p.bad_rows, "bad rows")),
        _calls(p, planned_calls),
        *map(_budget, p.budget),
        "" if seconds_left is None else f"about {duration(seconds_left)} left",
    ]
    line = f"{p.stage}: {', '.join(filter(None, parts))}"
    return clean("; ".join((line, *map(_waiting, p.waits), *([_stall(p.stall)] if p.stall and not p.waits else []))))


EVENTS = {"begins": "begins", "skipped": "finished by an earlier run, skipped", "stopping": "stopping"}


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: "45 s", "4 min", "2 h 10 min", "3 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _done(n: int | None, of: int | None, what: str) -> str:
    if n is None:
        return ""
    return f"{n:,} {what}" if of is None else f"{n:,} of {of:,} {what}"


def _counts(*counts: tuple[int, str]) -> str:
    return ", ".join(f"{n:,} {what}" for n, what in counts if n)


def _calls(p: Progress, planned: int | None) -> str:
    if p.calls is None:
        return ""
    of = f" of about {planned:,}" if planned and planned >= p.calls else ""
    more = _counts((p.reused, "reused"), (p.retried, "tried again"), (p.in_flight, "in flight"))
    return f"{p.calls:,}{of} calls{f' ({more})' if more else ''}, {p.tokens:,} tokens"


def _budget(use: BudgetUse) -> str:
    return f"{use.used:,.6g} of {use.limit:,.6g} {use.unit} of the budget"


def _waiting(wait: Waiting) -> str:
    return f"{wait.name}: {wait.status}, next try in {duration(wait.for_s)} ({wait.calls:,} waiting)"


def _stall(stall: Stall) -> str:
    since = duration(stall.seconds)
    if not stall.judge:
        at_work = f"; dimension {stall.dimension} is at work on sample {stall.sample}" if stall.dimension else ""
        return f"no reply for {since}{at_work}"
    call = f"{stall.dimension} ({stall.kind}) of sample {stall.sample}"
    if stall.computing:
        return f"judge {stall.judge} has been computing for {since}: {call}"
    return f"judge {stall.judge} has not replied for {since}: {call}"


def _figures(figures: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in figures.items())
