"""Calls to one judge: journal first, then one call in flight for equal requests, retries by class of error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lrf.engine.budget import BudgetLedger
from lrf.engine.latency import Latency
from lrf.engine.limiter import Limiter, Priority
from lrf.engine.rate_limits import RateLimits, Sent
from lrf.engine.reply_modes import as_written, reply_mode_of
from lrf.engine.retries import Retries
from lrf.engine.single_flight import SingleFlight
from lrf.engine.worst_case import Counted, most_prompt_tokens, most_reply_tokens, next_limit, worst_case_of
from lrf.errors import (
    BadReplyError,
    JudgeError,
    ParseError,
    Reason,
    RunInterruptedError,
    TimedOutError,
    UnscorableError,
)
from lrf.prices import Price
from lrf.prompting.reasoning import without_thoughts
from lrf.prompting.requests import Answer, Expectation, RatingMode, Reply, Request, Usage
from lrf.prompting.templates import Prompt, prompt_text, restored, shared_beginning
from lrf.protocols import Judge
from lrf.store.journal import Journal, identity_text, request_key
from lrf.text.chunking import count_tokens
from lrf.text.excerpt import excerpt
from lrf.text.redaction import redact
from lrf.text.unicode import storable

T = TypeVar("T")

FIRST_TEMPERATURE, RETRY_TEMPERATURE, ATTEMPTS = 0.01, 0.95, 5  # the paper's public code


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a call is made: for the books, the log and the order of calls.

    ``round`` is how often the dimension was rescored: each round has replies of its own. ``again`` is how often the
    candidate's failed questions were rescored: each time gives them as many attempts more. ``take`` is 0, or the number
    of a calibration, whose replies are nobody else's.
    """

    sample: str
    dimension: str
    priority: Priority = (0, 0)
    round: int = 0
    again: int = 0
    take: int = 0


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that has been sent and not answered yet; ``began`` is on the monotonic clock.

    ``request`` and ``timeout``, of a call that has one, are for shortening it.
    """

    judge: str
    caller: Caller
    kind: str
    began: float
    request: Request | None = None
    timeout: asyncio.Timeout | None = None


CallListener = Callable[[str, str, str, int, float, str | None], None]


@dataclass(slots=True)
class JudgeCalls:
    """The engine's side of one judge.

    ``flights`` are the questions under way, by what their replies are kept under. Judges of one engine share them: two
    may be one model (at once and by batches, say), whose replies are one another's.
    """

    name: str
    judge: Judge
    journal: Journal
    ledger: BudgetLedger
    seed: int = 0
    listener: CallListener | None = None
    price: Price | None = None
    rates: RateLimits | None = None
    flights: SingleFlight[Reply] = field(default_factory=SingleFlight)
    limiter: Limiter = field(init=False)
    retries: Retries = field(init=False)
    pace: Latency = field(default_factory=Latency)
    _identity: str = field(init=False)
    _prompt_share: float = 1.0
    _counted: Counted = field(default_factory=Counted)
    _in_flight: dict[int, InFlight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.judge.max_concurrency, self.rates, adapts=self.judge.capabilities.steady)
        self.retries = Retries(f"judges.{self.name}", self.limiter)
        self._identity = identity_text(self.judge.identity)

    # --- asking until the reply holds what was expected ---------------------------------------------------------

    @property
    def identity(self) -> str:
        """What the judge's replies depend on, as the journal has it."""
        return self._identity

    @property
    def oldest(self) -> InFlight | None:
        """The call that has been in flight for longest."""
        return next(iter(self._in_flight.values()), None)

    async def ask(
        self,
        prompt: Prompt,
        expects: Expectation[T],
        max_tokens: int,
        caller: Caller,
        *,
        reply_mode: RatingMode = "auto",
        repeat: int = 0,
    ) -> Answer[T]:
        """An answer, or :class:`lrf.errors.UnscorableError` after the last attempt with the reason of the last failure.

        Draws above 0 are made at the temperature of retries, so that they can differ.
        """
        wanted, reply_mode = reply_mode, reply_mode_of(self.judge, expects, reply_mode)
        failure = ParseError(Reason.NO_REPLY)
        temperature = RETRY_TEMPERATURE if repeat else FIRST_TEMPERATURE
        attempts, filtered = ATTEMPTS * (1 + caller.again), 0
        for attempt in range(attempts):
            request = Request(
                prompt=prompt,
                expects=expects,
                max_tokens=max_tokens,
                temperature=temperature,
                reply_mode=reply_mode,
                seed=self._seed(caller.round, repeat, attempt),
                attempt=attempt,
                repeat=repeat,
                round=caller.round + caller.take,
            )
            reply = await self._once(request, caller)
            if reply.finish == "filter":
                filtered += 1
                failure = ParseError(Reason.FILTERED, "the judge's content filter held the reply back")
                if filtered > caller.again:
                    raise UnscorableError(failure.reason, failure.detail)
            elif reply.finish == "length":  # looked at first: half a reply often looks like a bad one
                if failure.reason == Reason.TRUNCATED_REPLY:  # more room alone didn't end it
                    temperature = RETRY_TEMPERATURE
                failure = ParseError(Reason.TRUNCATED_REPLY, f"cut off at {max_tokens} tokens")
                max_tokens = next_limit(max_tokens)
            else:
                read_as = as_written(self.judge, reply) if reply_mode == "logprobs" and wanted == "auto" else reply_mode
                try:
                    value = restored(expects.read(reply, read_as), prompt)
                except ParseError as error:
                    failure, temperature = error.with_traceback(None), RETRY_TEMPERATURE
                else:
                    return Answer(value, restored(reply.text, prompt), read_as, attempt + 1, reply.probabilities)
            self.ledger.lines[caller.dimension].asked_again += attempt < attempts - 1
        wrote = f'; the last reply: "{excerpt(reply.text)}"' if reply.text.strip() else ""
        raise UnscorableError(failure.reason, f"{failure.detail} (asked {attempts} times{wrote})")

    def _seed(self, round_: int, repeat: int, attempt: int) -> int | None:
        """Another one for each request that is otherwise equal; None for a judge without seeds."""
        return self.seed + attempt + 1_000 * repeat + 1_000_000 * round_ if self.judge.capabilities.seed else None

    # --- one reply for one request ------------------------------------------------------------------------------

    async def _once(self, request: Request, caller: Caller) -> Reply:
        """The reply to this request: from the journal, from the call that is already under way, or from the judge."""
        key = request_key(self._identity, request)
        if key in self.flights:
            self.ledger.lines[caller.dimension].reused += 1
        return await self.flights.join(key, lambda: self._fetch(key, request, caller))

    async def _fetch(self, key: bytes, request: Request, caller: Caller) -> Reply:
        kept = await self.journal.reply(key)
        if kept is not None:
            self.ledger.lines[caller.dimension].reused += 1
            return kept
        await self._check_window(request)
        late: list[float] = []
        return await self.retries.run(lambda: self._call(key, request, caller, late))

    async def _check_window(self, request: Request) -> None:
        """Raises :class:`lrf.errors.UnscorableError` for a request that is too long for the judge: before it is paid."""
        window = self.judge.capabilities.context_window
        if window is None:
            return
        reply = most_reply_tokens(self.judge, request.max_tokens)
        if most_prompt_tokens(request) + reply <= window:
            return
        if await asyncio.to_thread(self._counted.tokens, request.prompt) + reply <= window:
            return
        tokens = await asyncio.to_thread(count_tokens, prompt_text(request.prompt))
        if tokens + reply > window:
            raise UnscorableError(
                Reason.CONTEXT_TOO_SMALL,
                f"the prompt has {tokens} tokens and the reply may have {reply}; "
                f"judges.{self.name} takes {window} together (`context_window`)",
            )

    def _worst(self, request: Request) -> tuple[int, int, int]:
        """(tokens, money, calls) that the request may take at most; of no account where there is no budget."""
        if not self.ledger.budget.limited:
            return 0, 0, 1
        most = worst_case_of(self.judge, request)
        money = self.price.most(most.prompt, most.reply) if self.price else 0
        return most.prompt + most.reply, money, most.calls

    def _likely(self, request: Request) -> tuple[int, float]:
        """(calls, tokens) that the request counts as against what may be sent a minute, until its reply has come.

        The most that it may take; of the prompts' tokens the largest share of the most that any prompt had so far.
        """
        if self.rates is None:
            return 1, 0
        most = worst_case_of(self.judge, request)
        return most.calls, most.prompt * self._prompt_share + most.reply

    def _deadline_s(self, request: Request, late: Sequence[float]) -> float:
        """Seconds that this call may take: by the pace of other replies, twice as many for each time it was late."""
        most: float = self.judge.request_timeout_s
        due = None
        if self.judge.capabilities.steady:
            due = self.pace.deadline_s(most_reply_tokens(self.judge, request.max_tokens))
        return most if due is None else min(most, due * 2.0 ** len(late))

    async def _call(self, key: bytes, request: Request, caller: Caller, late: list[float]) -> Reply:
        tokens, money, calls = self._worst(request)
        beginning = shared_beginning(request.prompt) if self.judge.capabilities.steady else None
        async with self.limiter.slot(caller.priority, *self._likely(request), beginning) as sent:
            await self.ledger.admit(tokens, money, calls=calls)
            if self.limiter.draining:
                self.ledger.release(tokens, money, calls=calls)
                raise RunInterruptedError("the run is being stopped")
            usage: Usage | None = None
            reason: str | None = "cancelled"
            began = time.monotonic()
            deadline_s = self._deadline_s(request, late)
            timeout = asyncio.timeout(deadline_s)
            call = InFlight(self.name, caller, request.expects.kind, began, request, timeout)
            self._in_flight[id(call)] = call
            try:
                async with timeout:
                    answered = await self.judge.complete(replace(request, deadline_s=deadline_s))
                reply = storable_reply(without_thoughts(answered))
                usage, reason = reply.usage, None
            except TimeoutError:
                late.append(deadline_s)
                reason = TimedOutError.reason
                raise TimedOutError(
                    f"no reply from {self.name} within {round(time.monotonic() - began, 2):g} s"
                ) from None
            except JudgeError as error:
                if isinstance(error, TimedOutError):
                    late.append(deadline_s)
                reason = error.reason
                raise
            except RunInterruptedError:  # left to the server
                raise
            except Exception:  # a plugin's own fault
                reason = JudgeError.reason
                raise
            finally:
                del self._in_flight[id(call)]
                seconds = time.monotonic() - began
                if usage is None and reason == "cancelled":  # given up: no fault
                    self.ledger.release(tokens, money, calls=calls)
                else:
                    self.ledger.settle(caller.dimension, tokens, usage, money, self.price, calls=calls)
                if usage is not None:
                    self._learn(request, usage, sent, seconds)
                if self.listener:
                    self.listener(self.name, request.expects.kind, caller.sample, request.attempt, seconds, reason)
            self.limiter.replied()
        most = (0, 0) if reply.usage.told else worst_case_of(self.judge, request)[1:]
        try:
            await self.journal.commit_reply(
                key,
                self._identity,
                request,
                reply,
                sample=caller.sample,
                dimension=caller.dimension,
                seconds=seconds,
                worst=most,
            )
        finally:
            self.limiter.written()
        return reply

    def _learn(self, request: Request, usage: Usage, sent: Sent | None, seconds: float) -> None:
        """What a reply says about how long replies take, and how many tokens prompts have."""
        if sent and self.rates and (tokens := usage.prompt_tokens + usage.completion_tokens):
            self.rates.settle(sent, usage.calls, tokens)
            share = usage.prompt_tokens / max(1, usage.calls) / most_prompt_tokens(request)
            self._prompt_share = share if self._prompt_share == 1.0 else max(self._prompt_share, share)
        if self.judge.capabilities.steady:
            known = self.pace.known
            slowness = self.pace.slowness(seconds, usage)
            if self.pace.known and not known:
                self._shorten()
            if slowness is not None and (usual := self.limiter.timed(slowness)) is not None:
                self.pace.accept(usual)

    def _shorten(self) -> None:
        """Now that the pace is known, calls that were sent before have a deadline, too."""
        now = asyncio.get_running_loop().time()
        for call in self._in_flight.values():
            if call.request is None or call.timeout is None or call.timeout.expired():
                continue
            if (when := call.timeout.when()) is not None:
                left_s = self._deadline_s(call.request, ()) - (time.monotonic() - call.began)
                call.timeout.reschedule(min(when, now + left_s))

    async def aclose(self) -> None:
        await self.flights.aclose()
        await self.judge.aclose()


def storable_reply(reply: Reply) -> Reply:
    """The reply as the journal keeps it (without secrets), so that it reads the same today and when taken from there.

    Raises :class:`lrf.errors.BadReplyError` for probabilities that are none.
    """
    if reply.probabilities is not None and not all(0 <= p <= 1 for p in reply.probabilities.values()):  # NaN included
        raise BadReplyError(f"the judge gave probabilities that are not from 0 to 1: {str(reply.probabilities)[:200]}")
    texts = (reply.text, reply.reasoning, reply.model)
    text, reasoning, model = (None if t is None else redact(storable(t)) for t in texts)
    if (text, reasoning, model) == texts:
        return reply
    return replace(reply, text=text or "", reasoning=reasoning, model=model)
