"""The event loop and the interpreter as they suit thousands of calls in flight."""

from __future__ import annotations

import asyncio
import gc
import logging
import selectors
import sys
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from lrf.errors import StageError
from lrf.store import forks

T = TypeVar("T")

FEW = 8
SWITCH_S = 0.0005
THRESHOLDS = (300_000, 10, 10)
PYTHONS_OWN = 2_000  # Python 3.12 counts its immortal objects as frozen: a few hundred


@contextmanager
def tuned() -> Iterator[None]:
    """Within the block the garbage collector runs less often and ignores older objects, and threads switch sooner.

    With Python's defaults, collecting took a sixth of the CPU of a run and stopped the event loop for 0.1 s at a time.
    And when the loop releases the interpreter (for a write to a socket), it gets it back only after 5 ms.
    """
    thresholds, switch_s, frozen = gc.get_threshold(), sys.getswitchinterval(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        gc.set_threshold(*thresholds)
        if frozen < PYTHONS_OWN:  # else whoever froze objects before wants them to stay frozen
            gc.unfreeze()


class FewAtOnce(selectors.DefaultSelector):
    """Reports at most :data:`FEW` of the files that are ready; the others are still ready when it is asked again.

    This keeps the event loop fair: it handles everything that is reported before it looks at anything else, so a
    hundred replies that come together would delay everything until all of them are read and parsed.
    """

    _from = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        if len(ready) <= FEW:
            return ready
        # in turn, since the same files may always be reported first
        self._from = (self._from + FEW) % len(ready)
        return (ready[self._from :] + ready)[:FEW]


class UnstoppableEventLoop(asyncio.SelectorEventLoop):
    """An event loop that components can't stop: whoever tries gets the error, and what is at work goes on.

    A child that a component forked, and that returns, ends before its next turn: the run is its parent's.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._forks = forks.count

    def _run_once(self) -> None:
        if self._forks != forks.count:
            forks.end_child("a component")
        super()._run_once()  # type: ignore[misc]

    def stop(self) -> None:
        asked = str(sys._getframe(1).f_globals.get("__name__"))
        if asked == "asyncio.base_events":  # the main task has ended
            super().stop()
        elif asked == "asyncio.events":  # called later: nobody knows for whom
            logging.getLogger("lrf").warning("a component asked the event loop to stop, which it may not; it goes on")
        else:
            raise RuntimeError("a component may not stop the event loop")


def end(loop: asyncio.AbstractEventLoop) -> None:
    """Stop an event loop that runs for ever in a thread."""
    loop.call_soon_threadsafe(asyncio.BaseEventLoop.stop, cast(asyncio.BaseEventLoop, loop))


@contextmanager
def recursion_limit_kept() -> Iterator[None]:
    """Within the block no component can lower Python's recursion limit below what it was before.

    Under a lower limit any code may fail, lrf's own and that of other components, wherever it is at work.
    """
    least, original = sys.getrecursionlimit(), sys.setrecursionlimit

    def set_limit(limit: int, /) -> None:
        if limit < least:
            raise ValueError(f"a component may not lower Python's recursion limit to {limit}; it is {least}")
        original(limit)

    sys.setrecursionlimit = set_limit
    try:
        yield
    finally:
        sys.setrecursionlimit = original


def run(main: Coroutine[Any, Any, T]) -> T:
    """As :func:`asyncio.run`, on an event loop that reads a few replies in a turn and that components can't stop.

    Raises :class:`lrf.errors.StageError` where a component calls ``sys.exit`` in a task of its own, which ends the
    loop, or cancels tasks that aren't its own.
    """
    try:
        with recursion_limit_kept(), asyncio.Runner(loop_factory=new) as runner:
            try:
                return runner.run(main)
            except SystemExit:
                runner.get_loop().set_exception_handler(lambda *_: None)  # nobody retrieves it from the tasks
                raise
    except asyncio.CancelledError:
        raise StageError(
            "a component cancelled the run's own task; what was committed is kept: mend it and run the same command "
            "again"
        ) from None
    except SystemExit as error:
        raise StageError(
            f"{_raised_at(error)} ended the run by sys.exit({error.code!r}) in a task of its own; what was committed "
            "is kept: mend it and run the same command again"
        ) from None


def _raised_at(error: BaseException) -> str:
    on_the_way = {Path(__file__).parent, Path(asyncio.__file__).parent}
    places = [p for p in traceback.extract_tb(error.__traceback__) if Path(p.filename).parent not in on_the_way]
    return f"{places[-1].filename}:{places[-1].lineno}" if places else "a component"


def new() -> asyncio.AbstractEventLoop:
    """An event loop that reads a few replies in a turn, and that components can't stop; :func:`end` does."""
    windows = sys.platform == "win32"  # its own event loop has no selector
    return asyncio.new_event_loop() if windows else UnstoppableEventLoop(FewAtOnce())
