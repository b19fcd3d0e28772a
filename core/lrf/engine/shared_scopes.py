"""What samples share that are scored apart although they have the same documents and query (a server's requests)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lrf.engine.sample_scope import SampleScope
from lrf.types import Sample

_Key = tuple[Any, ...]
MOST_KEPT = 64
"""Scopes without a user that are kept at most (an index of a long document takes megabytes); the longest unused goes
first."""


@dataclass(slots=True)
class _Shared:
    scope: SampleScope
    users: int = 0
    timer: asyncio.TimerHandle | None = None


class SharedScopes:
    """Scopes of samples by their documents and query, each kept for a while after its last user has left.

    Candidates that come one by one then share chunks, indexes and notes, as the candidates of one sample do. These
    don't depend on the candidate (:meth:`lrf.protocols.Context.once`), so nothing depends on who comes first; what
    could not be made is made anew for the next who comes.

    Parameters
    ----------
    window_s: seconds that a scope is kept without a user.
    """

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._shared: OrderedDict[_Key, _Shared] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def enter(self, scope: SampleScope) -> Callable[[], Awaitable[None]]:
        """Let the scope use what others with the same documents and query have made. Call the result at its end."""
        key = _key(scope.sample)
        shared = self._shared.setdefault(key, _Shared(scope))
        self._shared.move_to_end(key)
        if shared.timer is not None:
            shared.timer.cancel()
            shared.timer = None
        shared.users += 1
        shared.scope.forget_failures()
        scope.join(shared.scope)
        return partial(self._leave, key, shared, scope)

    async def _leave(self, key: _Key, shared: _Shared, scope: SampleScope) -> None:
        shared.users -= 1
        if not shared.users:
            shared.timer = asyncio.get_running_loop().call_later(self.window_s, self._end, key)
            unused = [k for k, s in self._shared.items() if not s.users]
            for old in unused[:-MOST_KEPT]:
                self._end(old)
        if scope is not shared.scope:
            await scope.gathering.aclose()

    def _end(self, key: _Key) -> None:
        shared = self._shared.pop(key)
        if shared.timer is not None:
            shared.timer.cancel()
        closing = asyncio.get_running_loop().create_task(shared.scope.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close everything."""
        for key in list(self._shared):
            self._end(key)
        await asyncio.gather(*self._closing, return_exceptions=True)


def _key(sample: Sample) -> _Key:
    """The query and the documents; a dict compares texts by identity first, so those of a store cost nothing."""
    return sample.query, *((d.id, d.title, d.text) for d in sample.documents)
