"""Closes components. One that can't be closed is reported, keeps no other open and hides no other error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from lrf.engine.faults import FaultListener, fault_of
from lrf.errors import Reason

LONGEST_S = 60.0
"""Seconds that one component may take to close."""

Closing = tuple[str, object, Callable[[], Awaitable[None]]]
"""A component's title, the component, and what closes it."""


async def close_all(closing: Iterable[Closing], on_fault: FaultListener) -> None:
    """Close everything in turn. ``on_fault`` is called with what goes wrong; nothing but a cancellation is raised."""
    for title, component, close in closing:
        try:
            async with asyncio.timeout(LONGEST_S):
                await close()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            on_fault(fault_of(f"closing {title}", component, error, Reason.DIMENSION_ERROR))
