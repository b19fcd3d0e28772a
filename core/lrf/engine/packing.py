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
    """A question that waits to be sent. ``paid``: whether its reply was paid for now, known once it has come."""

    request: Request
    caller: Caller
    order: Order
    reply: asyncio.Future[Reply]
    sent: bool = False
    paid: bool = False


Send = Callable[[Sequence[GatheredQuestion]], Awaitable[None]]
"""Sends questions of one sample to one judge, and sets the future of each."""


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

    async def ask(self, send: Send, request: Request, caller: Caller) -> GatheredQuestion:
        """Wait for the reply to a question, which is sent with others. Raises what stands in its place."""
        question = GatheredQuestion(request, caller, self.order, asyncio.get_running_loop().create_future())
        self.gathering.add(self, send, question)
        self.gathered += 1
        self.changed()
        try:
            await question.reply
        finally:
            if question.sent:
                self.busy -= 1
            else:
                self.gathered -= 1
            self.changed()
        return question


@dataclass(slots=True, eq=False)
class Gathering:
    """The questions of one sample that wait to be sent, by what sends them.

    Attributes
    ----------
    at_work: workers that aren't idle.
    """

    at_work: int = 0
    _waiting: dict[Send, list[tuple[Worker, GatheredQuestion]]] = field(default_factory=dict)
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

    def add(self, worker: Worker, send: Send, question: GatheredQuestion) -> None:
        """Gather a question of this worker."""
        self._waiting.setdefault(send, []).append((worker, question))

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
            questions = [question for _, question in gathered if not question.reply.done()]
            for worker, question in gathered:
                if not question.reply.done():  # done: whoever waited was cancelled
                    question.sent = True
                    worker.gathered, worker.busy = worker.gathered - 1, worker.busy + 1
                    worker.changed()
            task = asyncio.ensure_future(_sent(send, sorted(questions, key=lambda question: question.order)))
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
