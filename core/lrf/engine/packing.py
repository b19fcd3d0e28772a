"""When the questions of one sample are sent: once nothing of the sample is at work that could ask another.

What is packed together then follows from the sample alone, and never from which reply came first. A dimension at work
is *idle* while it waits for nothing but questions that are gathered here, or for what another one makes for the whole
sample. When all are idle, everything that was gathered is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field

from lrf.engine.paid_call import Caller
from lrf.errors import UnscorableError
from lrf.prompting.requests import Reply, Request

QUIET_TURNS = 10
"""Turns of the event loop without any change after which all that is going to be asked at once has been gathered."""

Order = tuple[int, int, str]
"""The place of what asks in its sample: candidate and dimension, or the name of what is made for all candidates."""

NOTHING = nullcontext()
"""Stands for a worker where no judge takes several questions a request, so that nothing is gathered."""

_WORKER: ContextVar[Worker | None] = ContextVar("lrf_worker", default=None)


@dataclass(slots=True, eq=False)
class GatheredQuestion:
    """A question that waits to be sent.

    Parameters
    ----------
    group: the questions that are asked together with it.
    key: what its reply is kept under; set when it is sent.
    outcome: its reply, or why it has none.
    paid: whether its reply was paid for now, known once it has come.
    leads: whether it is in a request that others of its sample wait for.
    """

    request: Request
    caller: Caller
    group: Group
    key: bytes = b""
    outcome: Reply | BaseException | None = None
    paid: bool = False
    leads: bool = False

    def settle(self, outcome: Reply | BaseException) -> None:
        """Set the outcome, unless it has one."""
        if self.outcome is None:
            self.outcome = outcome
            self.group.settled(outcome)


@dataclass(slots=True, eq=False)
class Group:
    """Questions that one worker asks together. ``done``: all have their outcomes, or one has an error that ends all."""

    order: Order
    done: asyncio.Future[None]
    questions: Sequence[GatheredQuestion] = ()
    sent: bool = False
    _settled: int = 0

    def settled(self, outcome: Reply | BaseException) -> None:
        """One more question has its outcome."""
        self._settled += 1
        if self.done.done():
            return
        if isinstance(outcome, asyncio.CancelledError):
            self.done.cancel()
        elif isinstance(outcome, BaseException) and not isinstance(outcome, UnscorableError):
            self.done.set_exception(outcome)
            self.done.exception()  # seen, also when nobody waits any more
        elif self._settled == len(self.questions):
            self.done.set_result(None)


def group_of(requests: Sequence[Request], caller: Caller, order: Order = (0, 0, "")) -> Group:
    """These requests as a group of questions."""
    group = Group(order, asyncio.get_running_loop().create_future())
    group.questions = [GatheredQuestion(request, caller, group) for request in requests]
    return group


Send = Callable[[Sequence[GatheredQuestion]], Awaitable[None]]
"""Sends questions of one sample to one judge, and settles each."""


@dataclass(slots=True, eq=False)
class Worker:
    """A dimension at work on a candidate, or what is made for a whole sample."""

    gathering: Gathering
    order: Order
    gathered: int = 0
    waits_for_others: int = 0
    busy: int = 0
    idle: bool = False

    def changed(self) -> None:
        """Compare with before whether it is idle, and tell the gathering."""
        idle = self.busy == 0 and self.gathered + self.waits_for_others > 0
        self.gathering.at_work += self.idle - idle
        self.idle = idle
        self.gathering.changed()

    @contextmanager
    def waits_for_calls(self) -> Iterator[None]:
        """It waits within the block for something that isn't gathered."""
        self.busy += 1
        self.changed()
        try:
            yield
        finally:
            self.busy -= 1
            self.changed()

    @contextmanager
    def waits_for_workers(self) -> Iterator[None]:
        """It waits within the block for what another worker makes."""
        self.waits_for_others += 1
        self.changed()
        try:
            yield
        finally:
            self.waits_for_others -= 1
            self.changed()

    async def ask(self, send: Send, requests: Sequence[Request], caller: Caller) -> Sequence[GatheredQuestion]:
        """The questions with their outcomes, after they were sent with others."""
        group = group_of(requests, caller, self.order)
        self.gathering.add(self, send, group)
        self.gathered += 1
        self.changed()
        try:
            await group.done
        finally:
            if group.sent:
                self.busy -= 1
            else:
                self.gathered -= 1
            self.changed()
        return group.questions


@dataclass(slots=True, eq=False)
class Gathering:
    """The questions of one sample that wait to be sent, by what sends them.

    Attributes
    ----------
    at_work: workers that aren't idle.
    """

    at_work: int = 0
    _waiting: dict[Send, list[tuple[Worker, Group]]] = field(default_factory=dict)
    _changes: int = 0
    _watching: asyncio.Task[None] | None = None
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def worker(self, order: Order) -> Iterator[None]:
        """What the current task asks within the block is asked by a worker of its own."""
        worker = Worker(self, order)
        self.at_work += 1
        before = _WORKER.set(worker)
        try:
            yield
        finally:
            _WORKER.reset(before)
            self.at_work -= not worker.idle
            self.changed()

    def add(self, worker: Worker, send: Send, group: Group) -> None:
        """Gather questions of this worker."""
        self._waiting.setdefault(send, []).append((worker, group))

    def changed(self) -> None:
        """Something began or ended to wait: look whether all are idle."""
        self._changes += 1
        if self._waiting and not self.at_work and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        seen, quiet = self._changes, 0
        while quiet < QUIET_TURNS:
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._changes == seen else 0
            seen = self._changes
        self._watching = None
        if not self.at_work:
            self._send_all()

    def _send_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for send, gathered in waiting.items():
            gathered = [(worker, group) for worker, group in gathered if not group.done.done()]  # nobody was cancelled
            for worker, group in gathered:
                group.sent = True
                worker.gathered, worker.busy = worker.gathered - 1, worker.busy + 1
                worker.changed()
            groups = sorted((group for _, group in gathered), key=lambda group: group.order)
            task = asyncio.ensure_future(_sent(send, [q for group in groups for q in group.questions]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def aclose(self) -> None:
        """Give up what is being sent; those who wait for it have gone."""
        tasks = [*self._sending, *([self._watching] if self._watching else [])]
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sent(send: Send, questions: Sequence[GatheredQuestion]) -> None:
    await send(questions)


def current_worker() -> Worker | None:
    """The worker that the current task belongs to; None outside of scoring."""
    return _WORKER.get()


def busy() -> AbstractContextManager[None]:
    """The current worker waits for something that isn't gathered: a call, a search."""
    worker = _WORKER.get()
    return NOTHING if worker is None else worker.waits_for_calls()


def waiting_for_others() -> AbstractContextManager[None]:
    """The current worker waits for what another worker makes."""
    worker = _WORKER.get()
    return NOTHING if worker is None else worker.waits_for_workers()
