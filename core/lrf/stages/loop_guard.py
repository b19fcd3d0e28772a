"""Signals that stop a run, and a watch over its event loop: a component that blocks it is named, and can be ended.

A component's methods run on the event loop. One that doesn't return (``time.sleep``, an endless loop) stops everything
else with it, calls in flight included, and asyncio's own signal handlers as well. So signals are handled between any
two steps of Python, and a thread looks whether the loop still turns. What keeps the interpreter's lock (code in C that
never gives it back) can be ended from outside only; what is committed is safe then, too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from lrf.engine.faults import owned
from lrf.errors import RunInterruptedError
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress

BLOCKED_S = 5.0
"""Seconds without a turn of the event loop after which it counts as blocked."""

NEXT_BLOCKED_S = 1.0
"""Likewise once a component was ended: the same one may be at work on other candidates."""
DRAINING = "finishing the calls in flight; once more to end at once"

_LOOK_S = 0.25
_CORE = ("lrf", "asyncio")


@dataclass(frozen=True, slots=True)
class Holder:
    """The code that the event loop's thread is in: that of a component, or lrf's own."""

    name: str
    place: str
    is_component: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"


def holder_of(frame: FrameType | None, context: StageContext, task: asyncio.Task[Any] | None) -> Holder | None:
    """Who is at work in a stack: the component that lrf called last, with its distribution, and on which sample.

    None for an event loop that waits for something to do.

    ``frame`` is the stack's innermost; ``task`` is the event loop's current one.
    """
    place, called = "", None
    while frame is not None:
        root = _module(frame).partition(".")[0]
        if root == "selectors":
            return None
        if root in _CORE:
            place = place or _place(frame)
            break
        if root not in sys.stdlib_module_names:
            place, called = place or _place(frame), frame
        frame = frame.f_back
    if called is None:
        return Holder("lrf itself", place, is_component=False)
    engine = context.engine
    scoring = engine.running.of(task) if engine else None
    component = _first_argument(called)
    title = engine.title_of(component) if engine else None
    if title is not None:
        sample = f" on sample {scoring.sample}" if scoring else ""
        return Holder(f"{owned(title, component)}{sample}", place, is_component=True)
    name = f"{_module(called)}.{called.f_code.co_qualname}"
    return Holder(str(scoring) if scoring else name, place, is_component=True)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _main_thread() -> int:
    return threading.main_thread().ident or 0


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _first_argument(frame: FrameType) -> object:
    """What a method is called on; None for a function without arguments."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


@dataclass(slots=True)
class LoopGuard:
    """Handles the signals of a run, and says when its event loop is blocked.

    The first signal lets the run drain. If a component blocks the loop, it ends that component's code, too, by
    an error that is raised there. The second ends the process at once; the journal is always safe.

    Parameters
    ----------
    note: what is said at the first signal; nothing if empty.
    reason: why the run ends, with a place for the signal's name.
    """

    context: StageContext
    loop: asyncio.AbstractEventLoop
    note: str
    reason: str
    _turned: float = field(default_factory=time.monotonic)
    _signal: str = ""
    _limit_s: float = field(default_factory=lambda: BLOCKED_S)
    _reminded: bool = False
    _tried: asyncio.Task[Any] | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def turn(self) -> None:
        """Called by the event loop now and then."""
        self._turned = time.monotonic()
        if not self._ended.is_set():
            self.loop.call_later(_LOOK_S, self.turn)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal, in the event loop's thread, at any place."""
        if self._reminded:
            self._reminded = False
        elif self.context.stop is not None or self._signal:
            os._exit(RunInterruptedError.exit_code)
        else:
            self._signal = signal.Signals(number).name
            self.loop.call_soon_threadsafe(self._drain)
        if self.held_s >= self._limit_s:
            self._end_holder(frame)

    def _end_holder(self, frame: FrameType | None) -> None:
        """Raise an error in the component that blocks the event loop, if one does."""
        task = asyncio.current_task(self.loop)
        holder = holder_of(frame, self.context, task)
        if holder and holder.is_component:
            # In a component's code nothing of lrf's is half done, so the run can be stopped from here.
            self._tried, self._limit_s = task, min(BLOCKED_S, NEXT_BLOCKED_S)
            self.context.drain(RunInterruptedError(self.reason.format(self._signal)))
            ended = f"{holder} held the event loop and was ended"
            self.loop.call_soon_threadsafe(self._report, f"{self._signal}: {ended}")
            raise RunInterruptedError(ended)

    def _drain(self) -> None:
        if self.note:
            self._report(f"{self._signal}: {self.note}")
        self.context.drain(RunInterruptedError(self.reason.format(self._signal)))

    @property
    def held_s(self) -> float:
        """Seconds since the event loop has turned."""
        return time.monotonic() - self._turned

    def watch(self) -> None:
        """Say what blocks the event loop, in a thread of its own, until :meth:`end`."""
        said_s = 0.0
        said: tuple[str, asyncio.Task[Any] | None] = ("", None)
        while not self._ended.wait(_LOOK_S):
            held_s, task = self.held_s, asyncio.current_task(self.loop)
            now = (self._signal, task if self._signal else None)
            if held_s < self._limit_s:
                said_s = 0.0
            elif held_s >= 2 * said_s or said != now:
                holder = holder_of(sys._current_frames().get(_main_thread()), self.context, task)
                if holder is not None:
                    said_s, said = held_s, now
                    self._say(holder, held_s)
                    self._remind(task)

    def _say(self, holder: Holder, held_s: float) -> None:
        self.context.log.warning("the event loop is blocked", holder=str(holder), seconds=round(held_s, 1))
        if self._signal:
            self._report(f"{self._signal}: {holder} holds the event loop; once more to end at once")
        else:
            self._report(f"{holder} has held the event loop for {held_s:.0f} s: nothing else goes on")

    def _remind(self, task: asyncio.Task[Any] | None) -> None:
        """Have the signal handled again where a task began to block the event loop after it."""
        if self._signal and task is not self._tried:
            self._reminded = True
            signal.pthread_kill(_main_thread(), signal.Signals[self._signal])

    def _report(self, note: str) -> None:
        self.context.report(Progress(stage="run", event="stopping", note=note).as_json())

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()


@contextmanager
def guarded(context: StageContext, note: str = DRAINING, reason: str = "stopped by {}") -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP drain the run, and what blocks the event loop is named.

    For the main thread; elsewhere nothing is done. ``note`` and ``reason``: those of :class:`LoopGuard`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    guard = LoopGuard(context, asyncio.get_running_loop(), note, reason)
    guard.turn()
    watch = threading.Thread(target=guard.watch, name="lrf-loop-guard", daemon=True)
    watch.start()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup has it ignored
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, guard.handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        guard.end()
        watch.join()
