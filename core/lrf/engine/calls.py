"""Calls to one judge: journal first, then one call in flight for equal requests, retries by class of error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lrf.chunking import count_tokens
from lrf.engine.ledger import Ledger
from lrf.engine.limits import Limiter, Priority
from lrf.engine.retries import Retries
from lrf.errors import JudgeError, ParseFailure, TimedOut, Unscorable
from lrf.protocols import Judge
from lrf.replies import Answer, Expectation, Reply, Request, Way
from lrf.store.filesystem import dump, storable
from lrf.store.journal import Journal, request_key
from lrf.templates import Prompt, prompt_text

T = TypeVar("T")

FIRST_TEMPERATURE, RETRY_TEMPERATURE, ATTEMPTS = 0.01, 0.95, 5  # the paper's public code
MOST_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a call is made: for the books, the log and the order of calls."""

    sample: str
    dimension: str
    priority: Priority = (0, 0)


CallListener = Callable[[str, str, str, int, float, str | None], None]


def best_way(judge: Judge, expects: Expectation[Any]) -> Way:
    """Label probabilities where the judge gives them (fewer ties), then a schema, then marks in free text."""
    can = judge.capabilities
    if can.probabilities and expects.options:
        return "expected"
    return "structured" if can.structured and expects.schema else "text"


@dataclass(slots=True)
class JudgeCalls:
    """The engine's side of one judge."""

    name: str
    judge: Judge
    journal: Journal
    ledger: Ledger
    seed: int = 0
    listener: CallListener | None = None
    limiter: Limiter = field(init=False)
    retries: Retries = field(init=False)
    _identity: str = field(init=False)
    _flying: dict[bytes, asyncio.Task[Reply]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.judge.max_concurrency)
        self.retries = Retries(f"judges.{self.name}", self.limiter)
        self._identity = dump(dict(self.judge.identity))

    # --- asking until the reply holds what was expected ---------------------------------------------------------

    async def ask(self, prompt: Prompt, expects: Expectation[T], max_tokens: int, caller: Caller) -> Answer[T]:
        """An answer, or :class:`lrf.errors.Unscorable` after the last attempt with the reason of the last failure."""
        way = best_way(self.judge, expects)
        quoted = "\n".join(s.text for s in prompt if not s.trusted)
        failure = ParseFailure("no_reply")
        temperature = FIRST_TEMPERATURE
        for attempt in range(ATTEMPTS):
            request = Request(
                prompt=prompt,
                expects=expects,
                max_tokens=max_tokens,
                temperature=temperature,
                way=way,
                seed=self.seed + attempt if self.judge.capabilities.seed else None,
                attempt=attempt,
            )
            reply = await self._once(request, caller)
            if reply.finish == "filter":
                raise Unscorable("filtered", "the judge's content filter held the reply back")
            if reply.finish == "length":  # looked at first: half a reply often looks like a bad one
                failure = ParseFailure("truncated_reply", f"cut off at {max_tokens} tokens")
                max_tokens = min(2 * max_tokens, max(MOST_TOKENS, max_tokens))
            else:
                try:
                    value = expects.read(reply, way, quoted)
                except ParseFailure as e:
                    failure, temperature = e, RETRY_TEMPERATURE
                else:
                    return Answer(value, reply.text, way, attempt + 1, reply.probabilities)
            self.ledger.lines[caller.dimension].asked_again += attempt < ATTEMPTS - 1
        raise Unscorable(failure.reason, f"{failure.detail} (asked {ATTEMPTS} times)")

    # --- one reply for one request ------------------------------------------------------------------------------

    async def _once(self, request: Request, caller: Caller) -> Reply:
        """The reply to this request: from the journal, from the call that is already under way, or from the judge."""
        key = request_key(self._identity, request)
        task = self._flying.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, request, caller))
            self._flying[key] = task
            task.add_done_callback(lambda landed: self._landed(key, landed))
        else:
            self.ledger.lines[caller.dimension].reused += 1
        return await asyncio.shield(task)

    def _landed(self, key: bytes, task: asyncio.Task[Reply]) -> None:
        self._flying.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also when every waiter has gone

    async def _fetch(self, key: bytes, request: Request, caller: Caller) -> Reply:
        kept = await self.journal.reply(key)
        if kept is not None:
            self.ledger.lines[caller.dimension].reused += 1
            return kept
        return await self.retries.run(lambda: self._call(key, request, caller))

    async def _call(self, key: bytes, request: Request, caller: Caller) -> Reply:
        worst = 0
        if self.ledger.budget.tokens is not None:
            worst = count_tokens(prompt_text(request.prompt)) + request.max_tokens
        async with self.limiter.slot(caller.priority):
            self.ledger.reserve(worst)
            reply: Reply | None = None
            error: JudgeError | None = None
            began = time.monotonic()
            try:
                async with asyncio.timeout(self.judge.request_timeout_s):
                    reply = _storable(await self.judge.complete(request))
            except TimeoutError:
                error = TimedOut(f"no reply from {self.name} within {self.judge.request_timeout_s:g} s")
                raise error from None
            except JudgeError as e:
                error = e
                raise
            finally:
                seconds = time.monotonic() - began
                self.ledger.settle(caller.dimension, worst, reply.usage if reply else None)
                if self.listener:
                    reason = error.reason if error else None if reply else "cancelled"
                    self.listener(self.name, request.expects.kind, caller.sample, request.attempt, seconds, reason)
        # The slot is free again while the reply is being written.
        await self.journal.commit_reply(
            key, self._identity, request, reply, sample=caller.sample, dimension=caller.dimension, seconds=seconds
        )
        return reply

    async def aclose(self) -> None:
        for task in list(self._flying.values()):
            task.cancel()
        await asyncio.gather(*self._flying.values(), return_exceptions=True)
        await self.judge.aclose()


def _storable(reply: Reply) -> Reply:
    """The reply as the journal can hold it, so that it reads the same today and when it is taken from there."""
    texts = (reply.text, reply.reasoning, reply.model)
    text, reasoning, model = (None if t is None else storable(t) for t in texts)
    if (text, reasoning, model) == texts:
        return reply
    return replace(reply, text=text or "", reasoning=reasoning, model=model)
