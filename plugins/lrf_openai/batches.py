"""Requests through a provider's batch API: collected, submitted, waited for, and found again after a crash.

Nothing is kept on this machine. A batch has the judge's tag in its metadata and each request a hash of its content as
its id, so a new process finds the batches of an earlier one at the provider: it waits for those in flight, reads those
that have ended, and submits only the remaining requests.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lrf.errors import (
    BadReplyError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    RunInterruptedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.backoff import backoff_s
from lrf.http.client import HttpClient
from lrf_openai.batch_server import BatchServer, ProviderBatch
from lrf_openai.pending_batches import PendingBatch
from lrf_openai.settings import BatchSettings
from lrf_openai.spool import RequestSpool

TRIES = 8
SLICE = 20  # calls that are woken in one turn of the event loop, so that it does not stall
AGAIN_S = 1.0
_TRANSIENT = (RateLimitedError, UnavailableError, TimedOutError, BadReplyError)
_QUEUE_IS_FULL = "token_limit_exceeded"  # more tokens are queued at the provider than the account may have there


class Batches:
    """All requests of one judge. :meth:`reply` may take a day."""

    def __init__(self, settings: BatchSettings, server: BatchServer, http: HttpClient) -> None:
        self._settings = settings
        self._server = server
        self._http = http
        self._batch_of: dict[str, PendingBatch] = {}  # by custom_id
        self._waiting: dict[str, asyncio.Future[PendingBatch]] = {}
        self._open: RequestSpool | None = None
        self._sending: RequestSpool | None = None
        self._full: deque[RequestSpool] = deque()
        self._last_arrival = 0.0
        self._max_requests = settings.max_requests
        self._one_by_one = False
        self._turn = asyncio.Lock()
        self._detached = 0  # times
        self._attached: asyncio.Task[None] | None = None
        self._attach_again = math.inf
        self._submitting: asyncio.Task[None] | None = None

    async def reply(self, custom_id: str, line: Callable[[], bytes]) -> Any:
        """The body of the completion.

        ``line`` makes the request's line in a batch's file; it is not called for a request that is in a batch already.
        Raises a :class:`lrf.errors.JudgeError`.
        """
        detached = self._detached
        async with self._turn:  # one call in each turn of the event loop, since thousands may be waiting
            await self._attach_once()
        if self._detached != detached:
            raise RunInterruptedError("the run is being stopped")
        while True:
            pending = self._batch_of.get(custom_id)
            if pending is None or pending.replies is None:
                pending = await asyncio.shield(self._ended(custom_id, pending, line))
            assert pending.replies is not None, "a batch has ended once its replies are read"
            result = await asyncio.to_thread(pending.replies.get, custom_id)
            if self._batch_of.get(custom_id) is pending:
                del self._batch_of[custom_id]  # the next call with this id wants a new reply
            response = result.get("response") if result else None
            if isinstance(response, dict) and response.get("status_code") == 200:
                return response.get("body")
            error = pending.error(custom_id, result, self._http)
            if error is not None:
                raise error

    def detach(self) -> str | None:
        """End all waiting calls. Batches in flight stay at the provider; the message counts them, None without any."""
        running = [pending for pending in self._pending() if pending.replies is None and pending.watch]
        self._detached += 1
        in_flight = [len(pending.ids) for pending in running] + ([len(self._sending.ids)] if self._sending else [])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RunInterruptedError("the run is being stopped"))
                future.exception()  # marks it as retrieved, even if nothing waits for it any more
        self._waiting.clear()
        if self._submitting is not None:
            self._submitting.cancel()
        self._open, self._sending, self._full = None, None, deque()
        if self._attached is not None and self._attached.done():
            self._attached = None  # the next call in this process finds the batch that was being submitted
        if not in_flight:
            return None
        return (
            f"batches in flight: {len(in_flight)}, with {sum(in_flight)} requests; they stay at the provider, and the "
            "same command takes their replies"
        )

    async def aclose(self) -> None:
        pending = self._pending()
        tasks = [t for t in (self._attached, self._submitting, *(p.watch for p in pending)) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for batch in pending:
            if batch.replies is not None:
                batch.replies.close()
        await asyncio.to_thread(self._server.close)

    def _pending(self) -> list[PendingBatch]:
        return list({id(pending): pending for pending in self._batch_of.values()}.values())

    # --- batches of an earlier process ------------------------------------------------------------------------------

    async def _attach_once(self) -> None:
        """Raises the error of attaching. For a second after it, every call gets the same error."""
        task = self._attached
        if task is None or (task.done() and task.exception() and time.monotonic() > self._attach_again):
            task = self._attached = asyncio.create_task(self._attach())
            self._attach_again = math.inf
        try:
            await asyncio.shield(task)
        except JudgeError:
            self._attach_again = min(self._attach_again, time.monotonic() + AGAIN_S)
            raise

    async def _attach(self) -> None:
        batches = [b for b in await asyncio.to_thread(self._server.ours) if b.status != "failed"]
        few = asyncio.Semaphore(4)

        async def with_ids(batch: ProviderBatch) -> PendingBatch:
            has_ended = not batch.running or batch.status == "cancelling"
            async with few:
                return PendingBatch(batch, await asyncio.to_thread(self._server.ids, batch), earlier=has_ended)

        for pending in await asyncio.gather(*(with_ids(batch) for batch in batches)):
            self._batch_of.update(dict.fromkeys(pending.ids, pending))  # the newest batch counts

    # --- collecting and submitting ----------------------------------------------------------------------------------

    def _ended(
        self, custom_id: str, pending: PendingBatch | None, line: Callable[[], bytes]
    ) -> asyncio.Future[PendingBatch]:
        """Done when the batch with this request has ended. A request in no batch is put into one."""
        future = self._waiting.get(custom_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if pending is None:
                self._collect(custom_id, line())
            elif pending.watch is None or pending.watch.done():
                pending.watch = asyncio.create_task(self._watch(pending))
            self._waiting[custom_id] = future
        return future

    def _collect(self, custom_id: str, line: bytes) -> None:
        s = self._settings
        if len(line) > s.max_bytes:
            raise RejectedError(
                f"the request has {len(line)} bytes, more than a batch may have (batch.max_bytes: {s.max_bytes})"
            )
        spool = self._open
        if spool is not None and (len(spool.ids) >= self._max_requests or spool.size + len(line) > s.max_bytes):
            self._full.append(spool)
            spool = None
        if spool is None:
            spool = self._open = RequestSpool()
        spool.add(custom_id, line)
        self._last_arrival = time.monotonic()
        if self._submitting is None or self._submitting.done():
            self._submitting = asyncio.create_task(self._submit_all())

    async def _submit_all(self) -> None:
        while self._full or self._open:
            if self._one_by_one and (flying := self._flying()):
                await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                continue
            if not self._full and self._open:
                quiet = self._last_arrival + self._settings.quiet_s - time.monotonic()
                if quiet > 0:
                    await asyncio.sleep(quiet)
                    continue
                self._full.append(self._open)
                self._open = None
            self._sending = self._full.popleft()
            await self._submit(self._sending)
            self._sending = None

    def _flying(self) -> list[asyncio.Task[None]]:
        return [p.watch for p in self._pending() if p.watch is not None and not p.watch.done()]

    async def _submit(self, spool: RequestSpool) -> None:
        for tries in range(1, TRIES + 1):
            try:
                batch = await asyncio.to_thread(self._server.submit, spool)
            except Exception as error:
                if not isinstance(error, _TRANSIENT) or tries == TRIES:
                    await self._wake(spool.ids, _as_judge_error(error))
                    break
                pause = error.retry_after_s if isinstance(error, RateLimitedError | UnavailableError) else None
                await asyncio.sleep(backoff_s(tries) if pause is None else pause)
            else:
                pending = PendingBatch(batch, tuple(spool.ids))
                self._batch_of.update(dict.fromkeys(pending.ids, pending))
                pending.watch = asyncio.create_task(self._watch(pending))
                break
        spool.close()

    async def _wake(self, ids: Sequence[str], outcome: PendingBatch | JudgeError) -> None:
        for i, custom_id in enumerate(ids):
            future = self._waiting.pop(custom_id, None)
            if future is not None and not future.done():
                if isinstance(outcome, PendingBatch):
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)
            if i % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _watch(self, pending: PendingBatch) -> None:
        """Wait for the batch's end and read its replies. A server that is down for a while is asked again."""
        try:
            while pending.batch.running:
                await asyncio.sleep(self._settings.poll_s)
                pending.batch = await self._patiently(self._server.look, pending.batch)
            if pending.batch.status == "failed":
                self._read_problems(pending)
            pending.replies = await self._patiently(self._server.results, pending.batch)
        except Exception as error:  # of whatever kind, the waiting calls must get it
            await self._wake(pending.ids, _as_judge_error(error))
        else:
            await self._wake(pending.ids, pending)

    async def _patiently(self, ask: Callable[[ProviderBatch], Any], batch: ProviderBatch) -> Any:
        """The answer, asked for until it comes. Raises :class:`lrf.errors.BadReplyError` after eight bad ones."""
        tries = bad = 0
        while True:
            try:
                return await asyncio.to_thread(ask, batch)
            except _TRANSIENT as error:
                tries += 1
                bad += isinstance(error, BadReplyError)
                if bad == TRIES:
                    raise
                await asyncio.sleep(min(self._settings.poll_s, backoff_s(tries)))

    def _read_problems(self, pending: PendingBatch) -> None:
        """Prepare for submitting again the requests of a batch that the provider refused; none of them was run.

        Raises :class:`lrf.errors.JudgeMisconfiguredError` if the whole batch was refused.
        """
        problems = pending.batch.problems
        reasons = "; ".join(f"{code}: {message}" for code, _, message in problems[:3]) or "no reason given"
        if any(code == _QUEUE_IS_FULL for code, _, _ in problems):
            self._one_by_one = True
            self._max_requests = max(1, min(self._max_requests, len(pending.ids) // 2))
            if len(pending.ids) == 1:
                pending.refused[pending.ids[0]] = RateLimitedError(
                    f"the batch {pending.batch.id} was refused: {reasons}"
                )
            return
        count = len(pending.ids)
        lines = {line: message for _, line, message in problems if line is not None and 0 < line <= count}
        if not lines:
            raise JudgeMisconfiguredError(f"the provider refused the batch {pending.batch.id}: {reasons}")
        pending.refused = {
            pending.ids[line - 1]: RejectedError(
                f"the batch {pending.batch.id} was refused for this request: {message}"
            )
            for line, message in lines.items()
        }


def _as_judge_error(error: Exception) -> JudgeError:
    """The error itself, or one that says what is wrong with this machine, such as a full disk for temporary files."""
    if isinstance(error, JudgeError):
        return error
    return JudgeMisconfiguredError(f"a batch can't be kept on this machine ({type(error).__name__}: {error})")
