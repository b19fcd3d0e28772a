"""What all candidates of one sample share: each thing is made at most once, when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lrf.engine.closing import close_all
from lrf.engine.faults import FaultListener, ignore, without_exit
from lrf.engine.packing import Gathering, busy, waiting_for_others
from lrf.protocols import Index, Retriever
from lrf.types import Sample

T = TypeVar("T")


@dataclass(slots=True)
class SampleScope:
    """A sample that is being scored.

    Parameters
    ----------
    position: the sample's place in the data; calls of earlier ones go first.
    language: of the documents: "zh" or "en".
    retrievers: by name.
    take: 0, or the number of a calibration, whose replies no other run uses.
    on_fault: called for each index that can't be closed.
    gathering: the sample's questions that wait to be sent together.
    task: the task in which the sample is scored.
    """

    sample: Sample
    position: int
    language: str
    retrievers: Mapping[str, Retriever]
    take: int = 0
    on_fault: FaultListener = ignore
    gathering: Gathering = field(default_factory=Gathering)
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)
    _own: set[str] = field(default_factory=set)
    _made: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    _indexes: dict[str, asyncio.Task[Index]] = field(default_factory=dict)

    @property
    def is_given_up(self) -> bool:
        """Whether the sample's task was cancelled."""
        return self.task is None or bool(self.task.cancelling())

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` returns; it is called for the first caller with this key, and all others get the same."""
        task = self._made.get(key)
        if task is None:
            task = self._made[key] = asyncio.ensure_future(self._work(key, make))
            self._own.add(key)
        with (
            waiting_for_others() if key in self._own else busy()
        ):  # busy: another scope's questions aren't gathered here
            made: T = await asyncio.shield(task)
        return made

    async def _work(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` returns; what it asks is asked by a worker of its own."""
        with self.gathering.worker((-1, 0, key)), without_exit():
            return await make()

    def index(self, retriever: str) -> asyncio.Task[Index]:
        """The index of the sample's documents, which this retriever makes."""
        task = self._indexes.get(retriever)
        if task is None:
            task = self._indexes[retriever] = asyncio.ensure_future(self._index(self.retrievers[retriever]))
            task.add_done_callback(_mark_as_seen)
        return task

    async def _index(self, retriever: Retriever) -> Index:
        with without_exit():
            return await retriever.index(self.sample.documents)

    def join(self, other: SampleScope) -> None:
        """Share what the other scope makes, and has made, with it. It is of the same documents and query."""
        self._made, self._indexes = other._made, other._indexes

    def forget_failures(self) -> None:
        """Forget what could not be made, so that the next who asks for it has it made anew."""
        tasks: list[dict[str, asyncio.Task[Any]]] = [self._made, self._indexes]
        for made in tasks:
            for key in [k for k, t in made.items() if t.done() and (t.cancelled() or t.exception())]:
                del made[key]

    async def aclose(self) -> None:
        """Give up what is still being made, and close the indexes."""
        await self.gathering.aclose()
        tasks: list[asyncio.Task[Any]] = [*self._made.values(), *self._indexes.values()]
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        made = {name: t.result() for name, t in self._indexes.items() if not t.cancelled() and not t.exception()}
        closing = [(f"an index of retrievers.{name}", index, index.aclose) for name, index in made.items()]
        await close_all(closing, self.on_fault)


def _mark_as_seen(task: asyncio.Task[Any]) -> None:
    """Nobody may ask for the index any more; its error is then no news."""
    if not task.cancelled():
        task.exception()
