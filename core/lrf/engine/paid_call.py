"""A call that is paid for, from waiting for a slot to the committed reply: the same steps for every server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from lrf.engine.budget import NOTHING, Reservation
from lrf.engine.checks import can_be, check_usages, counts_of
from lrf.engine.faults import FaultError, faults_of
from lrf.engine.lease import InFlightNote
from lrf.engine.queue import FIRST
from lrf.engine.rate_limits import Sent
from lrf.engine.server import FinishedCall, Server
from lrf.engine.worst_case import WorstCase
from lrf.errors import JudgeError, RunError, RunInterruptedError, TimedOutError
from lrf.prices import amount
from lrf.prompting.requests import Request, Usage
from lrf.text.redaction import redact

T = TypeVar("T")

CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Caller:
    """For which sample and dimension a call is made.

    Attributes
    ----------
    sample, dimension: the sample's id, and the dimension's name or what the counts call it by.
    position: the sample's place in the data; earlier ones go first.
    round: how often the dimension was rescored: each round has other replies.
    again: how often the candidate's failed questions were rescored: each time gives them as many attempts more.
    take: 0, or the number of a calibration, whose replies no other run uses.
    candidate: the id of the candidate that it is made for; of what candidates share, the first that asked.
    """

    sample: str
    dimension: str
    position: int = 0
    round: int = 0
    again: int = 0
    take: int = 0
    candidate: str = ""


class Rated(NamedTuple):
    """What a call counts as against requests and tokens a minute until its reply has come."""

    requests: int = 1
    tokens: float = 0


ONE_CALL = Rated()


class Replied(NamedTuple, Generic[T]):
    """What a call brought, the usage of each reply in it, and the seconds from sending to the reply."""

    value: T
    usages: Sequence[Usage]
    seconds: float


@dataclass(slots=True, kw_only=True, eq=False)
class PaidCall(Generic[T]):
    """One call to a server. :meth:`run` makes it; the object is also what is known of it while it is in flight.

    Parameters
    ----------
    send: sends the call and returns what came, checked, with the usage of each reply in it.
    commit: keeps what came.
    worst: the most that the call can take.
    deadline_s: the seconds that the call may take, asked for when it is sent.
    dimensions: the dimension of each reply in it; empty where all are the caller's.
    counted: whether the call counts as a call of its dimension and against the budget (embeddings don't).
    learn: called with a reply and with what was counted as sent a minute.
    leads: whether other calls wait for it.
    request: what a judge is asked, or None; ``key`` is its key in the journal.
    """

    server: Server
    caller: Caller
    kind: str
    send: Callable[[float], Awaitable[tuple[T, Sequence[Usage]]]]
    commit: Callable[[Replied[T]], Awaitable[None]]
    worst: Callable[[], WorstCase]
    deadline_s: Callable[[], float]
    rated: Rated = ONE_CALL
    beginning: int | None = None
    attempt: int = 0
    counted: bool = True
    dimensions: Sequence[str] = ()
    learn: Callable[[Replied[T], Sent | None], None] | None = None
    request: Request | None = None
    key: bytes = b""
    leads: bool = False
    queued: float = 0.0
    began: float = 0.0
    timeout: asyncio.Timeout | None = None
    noted: WorstCase | None = None
    kept: InFlightNote | None = None
    claimed: bool = False

    @property
    def judge(self) -> str:
        """The server's name in the pipeline."""
        return self.server.name

    async def run(self) -> T:
        """What the call brought, once it is committed.

        Raises a :class:`lrf.errors.JudgeError` for a call that brought no usable reply,
        :class:`lrf.errors.BudgetError` before it is sent if it could overrun the budget, and
        :class:`lrf.errors.RunInterruptedError` before it is sent if the run is being stopped.
        """
        queue, self.queued = self.server.queue, time.monotonic()
        position = FIRST if self.leads else self.caller.position
        async with queue.slot(position, *self.rated, self.beginning) as sent:
            reservation = await self._reserve()
            try:
                replied = await self._send()
            except BaseException as error:
                self._fail(reservation, error)
                raise
            self._settle(reservation, replied, sent)
            queue.replied()
        try:
            await self.commit(replied)
            self._give_back()
        except RunError as error:  # nothing can be kept any more: what else is sent would be paid for in vain
            queue.stop.set(error)
            raise
        finally:
            queue.written()
        return replied.value

    async def _reserve(self) -> Reservation:
        """Set the worst case aside, once the budget has room for it."""
        ledger, reservation = self.server.ledger, NOTHING
        if self.counted:
            reservation = self._worst_of_budget()
            if ledger.budget.limited and self.server.keeps_calls:
                await self._claim()
            try:
                await ledger.admit(reservation)
            except BaseException:
                self._leave()
                raise
        try:
            if self.counted and ledger.budget.limited:
                await self._cover()
            self.server.queue.stop.check()
        except BaseException:
            ledger.release(reservation)
            self._end_unserved()
            raise
        return reservation

    async def _cover(self) -> None:
        """Note in the journal that the call may be in flight, for the case that the run is killed."""
        worst = self.worst()
        if not self.server.keeps_calls:
            await self.server.lease.cover(worst)
            self.noted = worst
        elif self.kept is None:
            self.kept = await self.server.kept.note(self.key.hex(), self.caller.dimension, worst)

    async def _claim(self) -> None:
        """Count the call no longer as one that may be in flight: it is asked for again, and counted as that."""
        self.kept = await self.server.kept.claim(self.key.hex())
        self.claimed = self.kept is not None
        if self.kept is not None:
            self.server.ledger.carry(*(-amount for amount in self._reservation(self.kept.worst)))

    def _leave(self) -> None:
        """Nobody waits for the call any more, and its server continues with it."""
        if self.kept is not None:
            self.server.kept.leave(self.key.hex(), self.kept)
            self.server.ledger.carry(*self._reservation(self.kept.worst))
            self.kept = None

    def _end_unserved(self) -> None:
        """The call wasn't sent; an earlier one with its request may still be with the server."""
        if self.claimed:
            self._leave()
        else:
            self._give_back()

    def _give_back(self) -> None:
        """What the call took is committed, or nothing was sent."""
        if self.noted is not None:
            self.server.lease.give_back(self.noted)
            self.noted = None
        if self.kept is not None:
            self.server.journal.forget_later(self.kept.row)
            self.kept = None

    def _worst_of_budget(self) -> Reservation:
        return self._reservation(self.worst()) if self.server.ledger.budget.limited else Reservation(calls=1)

    def _reservation(self, worst: WorstCase) -> Reservation:
        calls, prompt, reply = worst
        money = self.server.price.most(prompt, reply) if self.server.price else 0
        return Reservation(calls, prompt + reply, money)

    async def _send(self) -> Replied[T]:
        """Send the call within its deadline.

        Every failure that the server is to blame for is a JudgeError, and every one of the component's own code a
        :class:`lrf.engine.faults.FaultError`.
        """
        server = self.server
        self.began = time.monotonic()
        deadline_s = self.deadline_s()
        self.timeout = asyncio.timeout(deadline_s)
        server.sent[id(self)] = self
        try:
            async with self.timeout:
                with faults_of(server.title, server.component, server.fault_reason, server.on_fault):
                    value, usages = await self.send(deadline_s)
        except TimeoutError:
            took = f"{round(self._seconds(), 2):g} s"
            raise TimedOutError(f"no reply from {server.title} within {took}") from None
        finally:
            del server.sent[id(self)]
        return Replied(value, check_usages(server.title, server.component, usages), self._seconds())

    def _settle(self, reservation: Reservation, replied: Replied[T], sent: Sent | None) -> None:
        """Count what the replies took, tell the listener, and learn from them."""
        if self.counted:
            ledger, dimension = self.server.ledger, self.caller.dimension
            ledger.settle(dimension, reservation, replied.usages, self.server.price, dimensions=self.dimensions)
        else:
            self.server.ledger.release(reservation)
        if self.learn:
            self.learn(replied, sent)
        if self.server.listener is not None:
            self._tell(None, usage=sum_usages(replied.usages))

    def _fail(self, reservation: Reservation, error: BaseException) -> None:
        """Count a call without a usable reply: at its worst case if the server may have worked on it."""
        ledger = self.server.ledger
        reason = reason_of(error)
        served = self.counted and self._may_have_been_served(error)
        usage = getattr(error, "usage", None)
        reported = usage if isinstance(usage, Usage) and usage.told and can_be(usage) else None
        if not self.counted or (reason == CANCELLED and not served):
            ledger.release(reservation)
        else:
            ledger.fail(self.caller.dimension, reservation, served=served, usage=reported, price=self.server.price)
            ledger.lines[self.caller.dimension].faults -= reason == CANCELLED  # nobody is to blame for it
        if served:
            self._note(reason, reported)
        elif reason == CANCELLED and self.server.keeps_calls:
            self._leave()
        else:
            self._end_unserved()
        self._tell(reason, redact(str(error)), reported)

    def _may_have_been_served(self, error: BaseException) -> bool:
        """Whether the server may have worked on the call, and billed it. An unexpected error can come after that."""
        if isinstance(error, RunInterruptedError):  # left with the server
            return False
        if isinstance(error, asyncio.CancelledError):
            return not self.server.keeps_calls
        return bool(getattr(error, "sent", True))

    def _note(self, reason: str, reported: Usage | None) -> None:
        """Keep in the journal that the call counts, for later sittings."""
        worst = self.worst()
        usage, tokens = (reported, (0, 0)) if reported else (Usage(calls=worst.calls), worst[1:])
        try:
            kept = self.server.journal.note_unanswered(
                self.server.identity,
                sample=self.caller.sample,
                dimension=self.caller.dimension,
                reason=reason,
                usage=usage,
                worst=tokens,
            )
        except RunError:  # the journal is closed: the run has ended
            return
        if self.noted is not None or self.kept is not None:
            asyncio.wrap_future(kept).add_done_callback(self._kept)

    def _kept(self, kept: asyncio.Future[object]) -> None:
        if not kept.cancelled() and kept.exception() is None:
            self._give_back()

    def _tell(self, reason: str | None, message: str | None = None, usage: Usage | None = None) -> None:
        """Tell the listener. ``usage``: what the server reported."""
        server, price, used = self.server, self.server.price, usage or Usage(calls=0)
        if server.listener is None:
            return
        took = used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.written_tokens
        several = len(self.dimensions) > 1
        server.listener(
            FinishedCall(
                judge=server.name,
                kind=self.kind,
                sample_id=self.caller.sample,
                attempt=self.attempt,
                seconds=self._seconds(),
                error=reason,
                message=message,
                dimension="" if len(set(self.dimensions)) > 1 else self.caller.dimension,
                candidate_id="" if several else self.caller.candidate,
                model=server.model,
                usage=used,
                cost=amount(price.cost(*took)) if price and used.told else None,
                currency=price.currency if price else None,
                waited_s=max(0.0, self.began - self.queued) if self.began else 0.0,
            )
        )

    def _seconds(self) -> float:
        return time.monotonic() - self.began


def reason_of(error: BaseException) -> str:
    """The word for why a call brought no reply."""
    if isinstance(error, JudgeError | FaultError):
        return error.reason
    if isinstance(error, Exception) and not isinstance(error, RunInterruptedError):
        return JudgeError.reason  # a plugin's own fault
    return CANCELLED


def sum_usages(usages: Sequence[Usage]) -> Usage:
    """The usage of several replies together."""
    if len(usages) == 1:
        return usages[0]
    columns = zip(*map(counts_of, usages or [Usage()]), strict=True)
    return Usage(*map(sum, columns))
