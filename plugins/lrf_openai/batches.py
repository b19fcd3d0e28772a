"""Requests by a provider's batch API: collected, submitted, waited for, and found again after a crash.

Nothing is kept on this machine. A batch carries the judge's tag in its metadata and each request a hash of its content,
so a new process finds at the provider what an earlier one submitted: what is in flight is waited for, what has a reply
is read, and only the rest is submitted.
"""

from __future__ import annotations

import asyncio
import math
import random
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
from lrf.http.client import HttpClient
from lrf_openai.batch_server import Batch, BatchServer
from lrf_openai.held import PendingBatch
from lrf_openai.settings import BatchSettings
from lrf_openai.spool import Spool

TRIES = 8
SLICE = 20  # requests that are woken at once, so that the event loop does not stall
AGAIN_S = 1.0
_TRANSIENT = (RateLimitedError, UnavailableError, TimedOutError, BadReplyError)
_FULL = "token_limit_exceeded"  # more tokens wait at the provider than the account may have there


class Batches:
    """Everything that one judge asks by the batch API. ``reply`` may wait for a day."""

    def __init__(self, settings: BatchSettings, server: BatchServer, http: HttpClient) -> None:
        self._settings = settings
        self._server = server
        self._http = http
        self._at: dict[str, PendingBatch] = {}
        self._waiting: dict[str, asyncio.Future[PendingBatch]] = {}
        self._open: Spool | None = None
        self._sending: Spool | None = None
        self._full: deque[Spool] = deque()
        self._arrived = 0.0
        self._most = settings.max_requests
        self._one_by_one = False
        self._turn = asyncio.Lock()
        self._left = 0
        self._attached: asyncio.Task[None] | None = None
        self._attach_again = math.inf
        self._submitting: asyncio.Task[None] | None = None

    async def reply(self, custom_id: str, line: Callable[[], bytes]) -> Any:
        """The body of the completion; ``line`` makes the request's line. Raises a :class:`lrf.errors.JudgeError`."""
        left = self._left
        async with self._turn:  # one in a turn of the event loop, though thousands may have waited
            await self._attach_once()
        if self._left != left:
            raise RunInterruptedError("the run is being stopped")
        while True:
            held = self._at.get(custom_id)
            if held is None or held.replies is None:
                held = await asyncio.shield(self._ended(custom_id, held, line))
            assert held.replies is not None, "a batch is over when its replies are there"
            result = await asyncio.to_thread(held.replies.get, custom_id)
            if self._at.get(custom_id) is held:
                del self._at[custom_id]  # who asks again wants another one
            response = result.get("response") if result else None
            if isinstance(response, dict) and response.get("status_code") == 200:
                return response.get("body")
            error = held.error(custom_id, result, self._http)
            if error is not None:
                raise error

    def detach(self) -> str | None:
        """Give up waiting; what was submitted stays at the provider. Says so, if there is anything."""
        held = {id(h): h for h in self._at.values() if h.replies is None and h.watch}.values()
        self._left += 1
        in_flight = [len(h.ids) for h in held] + ([len(self._sending.ids)] if self._sending else [])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RunInterruptedError("the run is being stopped"))
                future.exception()  # seen, also where nobody waits any more
        self._waiting.clear()
        if self._submitting is not None:
            self._submitting.cancel()
        self._open, self._sending, self._full = None, None, deque()
        if self._attached is not None and self._attached.done():
            self._attached = None  # who asks again, in this process, finds what was being submitted
        if not in_flight:
            return None
        return (
            f"batches in flight: {len(in_flight)}, with {sum(in_flight)} requests; they stay at the provider, and the "
            "same command takes their replies"
        )

    async def aclose(self) -> None:
        held = {id(h): h for h in self._at.values()}.values()
        tasks = [t for t in (self._attached, self._submitting, *(h.watch for h in held)) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for h in held:
            if h.replies is not None:
                h.replies.close()
        await asyncio.to_thread(self._server.close)

    # --- what an earlier process submitted --------------------------------------------------------------------------

    async def _attach_once(self) -> None:
        """Raises what attaching raised; who comes within a second after that hears the same."""
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

        async def held(batch: Batch) -> PendingBatch:
            over = not batch.running or batch.status == "cancelling"
            async with few:
                return PendingBatch(batch, await asyncio.to_thread(self._server.ids, batch), earlier=over)

        for found in await asyncio.gather(*(held(batch) for batch in batches)):
            self._at.update(dict.fromkeys(found.ids, found))  # the newest that has a request counts

    # --- collecting and submitting ----------------------------------------------------------------------------------

    def _ended(
        self, custom_id: str, held: PendingBatch | None, line: Callable[[], bytes]
    ) -> asyncio.Future[PendingBatch]:
        """Done when the batch with this request is over, in which it is put if it is in none."""
        future = self._waiting.get(custom_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if held is None:
                self._collect(custom_id, line())
            elif held.watch is None or held.watch.done():
                held.watch = asyncio.create_task(self._watch(held))
            self._waiting[custom_id] = future
        return future

    def _collect(self, custom_id: str, line: bytes) -> None:
        s = self._settings
        if len(line) > s.max_bytes:
            raise RejectedError(
                f"the request has {len(line)} bytes, more than a batch may (batch.max_bytes: {s.max_bytes})"
            )
        spool = self._open
        if spool is not None and (len(spool.ids) >= self._most or spool.size + len(line) > s.max_bytes):
            self._full.append(spool)
            spool = None
        if spool is None:
            spool = self._open = Spool()
        spool.add(custom_id, line)
        self._arrived = time.monotonic()
        if self._submitting is None or self._submitting.done():
            self._submitting = asyncio.create_task(self._submit_all())

    async def _submit_all(self) -> None:
        while self._full or self._open:
            if self._one_by_one and (flying := self._flying()):
                await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                continue
            if not self._full and self._open:
                quiet = self._arrived + self._settings.quiet_s - time.monotonic()
                if quiet > 0:
                    await asyncio.sleep(quiet)
                    continue
                self._full.append(self._open)
                self._open = None
            self._sending = self._full.popleft()
            await self._submit(self._sending)
            self._sending = None

    def _flying(self) -> list[asyncio.Task[None]]:
        held = {id(h): h for h in self._at.values()}.values()
        return [h.watch for h in held if h.watch is not None and not h.watch.done()]

    async def _submit(self, spool: Spool) -> None:
        for tries in range(1, TRIES + 1):
            try:
                batch = await asyncio.to_thread(self._server.submit, spool)
            except Exception as error:
                if not isinstance(error, _TRANSIENT) or tries == TRIES:
                    await self._wake(spool.ids, _told(error))
                    break
                wished = error.retry_after_s if isinstance(error, RateLimitedError | UnavailableError) else None
                await asyncio.sleep(wished if wished is not None else _backoff(tries))
            else:
                held = PendingBatch(batch, tuple(spool.ids))
                self._at.update(dict.fromkeys(held.ids, held))
                held.watch = asyncio.create_task(self._watch(held))
                break
        spool.close()

    async def _wake(self, ids: Sequence[str], outcome: PendingBatch | JudgeError) -> None:
        for place, custom_id in enumerate(ids):
            future = self._waiting.pop(custom_id, None)
            if future is not None and not future.done():
                if isinstance(outcome, PendingBatch):
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _watch(self, held: PendingBatch) -> None:
        """Until the batch is over and its replies are here. A server that is down for a while is asked again."""
        try:
            while held.batch.running:
                await asyncio.sleep(self._settings.poll_s)
                held.batch = await self._patiently(self._server.look, held.batch)
            if held.batch.status == "failed":
                self._understand(held)
            held.replies = await self._patiently(self._server.results, held.batch)
        except Exception as error:  # whatever it is, who waits must hear of it
            await self._wake(held.ids, _told(error))
        else:
            await self._wake(held.ids, held)

    async def _patiently(self, ask: Callable[[Batch], Any], batch: Batch) -> Any:
        """Until it is answered. Raises :class:`lrf.errors.BadReplyError` when it is, many times, but not as it should be."""
        tries = odd = 0
        while True:
            try:
                return await asyncio.to_thread(ask, batch)
            except _TRANSIENT as error:
                tries += 1
                odd += isinstance(error, BadReplyError)
                if odd == TRIES:
                    raise
                await asyncio.sleep(min(self._settings.poll_s, _backoff(tries)))

    def _understand(self, held: PendingBatch) -> None:
        """What to do about a batch that the provider refused; nothing of it was run. Raises what stops the run."""
        problems = held.batch.problems
        said = "; ".join(f"{code}: {message}" for code, _, message in problems[:3]) or "no reason given"
        if any(code == _FULL for code, _, _ in problems):
            self._one_by_one = True
            self._most = max(1, min(self._most, len(held.ids) // 2))
            if len(held.ids) == 1:
                held.refused[held.ids[0]] = RateLimitedError(f"the batch {held.batch.id} was refused: {said}")
            return
        lines = {line: message for _, line, message in problems if line is not None and 0 < line <= len(held.ids)}
        if not lines:
            raise JudgeMisconfiguredError(f"the provider refused the batch {held.batch.id}: {said}")
        held.refused = {
            held.ids[line - 1]: RejectedError(f"the batch {held.batch.id} was refused for this request: {message}")
            for line, message in lines.items()
        }


def _told(error: Exception) -> JudgeError:
    """What is no error of the provider is one of this machine: a full disk for temporary files, say."""
    if isinstance(error, JudgeError):
        return error
    return JudgeMisconfiguredError(f"a batch can't be kept on this machine ({type(error).__name__}: {error})")


def _backoff(tries: int) -> float:
    return min(60.0, 0.5 * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0)
