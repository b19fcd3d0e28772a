"""Faults of components: what an unexpected error says, whose code raised it, and whether it may pass."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Any

from lrf.errors import LrfError, Reason, UnscorableError
from lrf.plugin.catalog import load_catalog
from lrf.store import forks
from lrf.text.redaction import redact

TRACE_CHARACTERS = 20_000
"""Characters of a traceback that are kept; the end says most."""

DETAIL_CHARACTERS = 2_000
"""Characters of an error's own words that are kept; the beginning says most."""

_CAUSES = 10  # that are followed; a chain can be a circle


class FaultError(UnscorableError):
    """A component's code raised an error that no protocol foresees; the candidate is unscored.

    ``component`` names the component with its class and its distribution, ``kind`` is the error's class, and
    ``trace`` the traceback as text.
    """

    def __init__(self, reason: str, component: str, error: BaseException, trace: str, *, transient: bool) -> None:
        super().__init__(reason, redact(f"{component}: {_one_line(error)}"), transient=transient)
        self.component = component
        self.kind = type(error).__name__
        self.trace = trace


NOT_OF_COMPONENTS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
"""What isn't an ``Exception`` and ends a component's code from outside; anything else is the component's own."""

FaultListener = Callable[[FaultError], None]
"""Called with each fault where it happens, on the event loop."""


def ignore(_fault: FaultError) -> None:
    """A listener that does nothing."""


def log_fault(fault: FaultError) -> None:
    """A listener for a library's caller: the fault goes to the logger "lrf", its traceback with level DEBUG."""
    logger = logging.getLogger("lrf")
    logger.error("%s", fault.detail)
    logger.debug("%s", redact(fault.trace))


def is_passing(error: BaseException) -> bool:
    """Whether an unexpected error is the machine's (memory, files, threads, the network), so that it may pass.

    An error that was raised ``from`` such a one counts too, and a group of errors if one in it does.
    """
    for _ in range(_CAUSES):
        if isinstance(error, MemoryError | OSError | BrokenExecutor) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            return True
        if isinstance(error, BaseExceptionGroup) and any(map(is_passing, error.exceptions)):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__
    return False


def fault_of(title: str, component: object, error: BaseException, reason: str) -> FaultError:
    """The fault that an unexpected error of a component is.

    Parameters
    ----------
    title: what the pipeline calls the component: "judges.main".
    reason: what the candidate is unscored for, unless the error may pass (:attr:`lrf.errors.Reason.MACHINE_ERROR`).
    """
    passing = is_passing(error)
    try:
        trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
    except Exception:  # out of memory, or an error that can't be shown
        trace = type(error).__name__
    error.__traceback__ = None  # else the frames are garbage that only a collector finds
    return FaultError(
        Reason.MACHINE_ERROR if passing else reason, owned(title, component), error, trace, transient=passing
    )


@contextmanager
def faults_of(title: str, component: object, reason: str, listener: FaultListener = ignore) -> Iterator[None]:
    """Turns unexpected errors in the block into a :class:`FaultError`, and calls ``listener`` with it.

    ``sys.exit`` is one, too, and whatever else isn't an ``Exception``. lrf's own errors and :class:`TimeoutError` pass
    as they are. A process that was forked in the block ends with it.
    """
    before = forks.count
    try:
        yield
    except asyncio.CancelledError as error:
        note_at_work(error, title, component, reason)
        raise
    except (LrfError, TimeoutError, *NOT_OF_COMPONENTS):
        raise
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(LrfError):
            raise
        fault = fault_of(title, component, error, reason)
        listener(fault)
        raise fault from None
    finally:
        if forks.count != before:
            forks.end_child(owned(title, component))


def note_at_work(error: asyncio.CancelledError, title: str, component: object, reason: str) -> None:
    """Note on a cancellation whose code was at work, for the case that nobody but that code wanted it."""
    vars(error).setdefault("at_work", (title, component, reason))


def cancellation_of(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    """The error by which a cancelled task ended: it may say whose code was at work."""
    try:
        task.result()
    except asyncio.CancelledError as error:
        return error.with_traceback(None)
    raise ValueError("the task wasn't cancelled")


def at_work_in(error: asyncio.CancelledError) -> tuple[str, object, str] | None:
    """Title, component and reason that :func:`note_at_work` noted, if it did."""
    at_work: tuple[str, object, str] | None = vars(error).get("at_work")
    return at_work


def fault_of_cancelled(error: asyncio.CancelledError, title: str, component: object, reason: str) -> FaultError:
    """The fault of the component that was at work, by :func:`note_at_work`, else of the one that is given."""
    title, component, reason = at_work_in(error) or (title, component, reason)
    return fault_of(title, component, RuntimeError("its code cancelled its own task"), reason)


@contextmanager
def without_exit() -> Iterator[None]:
    """Turns ``sys.exit`` in the block into an error like any other: in a task of its own it would end the loop."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"SystemExit: {error.code}") from error


def owned(title: str, component: object) -> str:
    """The component's title with its class and the distribution that this comes from, for messages."""
    owner = type(component)
    package, name = owner.__module__.partition(".")[0], owner.__qualname__
    distribution = _distribution(package)
    return f"{title} ({name} of {distribution or package})"


@cache
def _distribution(package: str) -> str | None:
    """The distribution, with its version, that an import package is from; None if there is none.

    Looking through all that is installed takes most of a second, in which the event loop does nothing else.
    """
    for registration in load_catalog().registrations:
        if registration.spec.target.partition(":")[0].partition(".")[0] == package:
            return str(registration.package)
    names = packages_distributions().get(package)
    return f"{names[0]} {version(names[0])}" if names else None


def _one_line(error: BaseException) -> str:
    try:
        return " ".join(traceback.format_exception_only(error)[-1][:DETAIL_CHARACTERS].split())
    except Exception:
        return type(error).__name__
