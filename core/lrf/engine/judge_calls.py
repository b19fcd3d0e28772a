"""Calls to one judge: journal first, then one call in flight for equal requests, retries by class of error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lrf.engine.asked import Asked, Outcome
from lrf.engine.budget import BudgetLedger
from lrf.engine.checks import check_reply
from lrf.engine.latency import Latency
from lrf.engine.paid_call import Caller, PaidCall, Rated, Replied
from lrf.engine.prompt_cut import check_whole, may_be_cut
from lrf.engine.rate_limits import RateLimits, Sent
from lrf.engine.readability import Readability
from lrf.engine.reply_modes import as_written, reply_mode_of
from lrf.engine.server import CallListener, Server, model_of
from lrf.engine.single_flight import SingleFlight
from lrf.engine.worst_case import (
    Counted,
    WorstCase,
    most_prompt_tokens,
    most_reply_tokens,
    next_limit,
    worst_case_of,
)
from lrf.errors import (
    BadReplyError,
    JudgeError,
    ParseError,
    Reason,
    TimedOutError,
    UnavailableError,
    UnscorableError,
)
from lrf.prices import Price
from lrf.prompting.reasoning import without_thoughts
from lrf.prompting.requests import Answer, Reply, Request, Usage
from lrf.prompting.templates import prompt_text, restored, shared_beginning
from lrf.protocols import Detachable, Judge
from lrf.store.journal import Journal, identity_text, request_key
from lrf.text.chunking import count_tokens
from lrf.text.excerpt import excerpt
from lrf.text.redaction import redact
from lrf.text.unicode import storable

T = TypeVar("T")

_NO_REPLY = ParseError(Reason.NO_REPLY)

FIRST_TEMPERATURE, RETRY_TEMPERATURE, ATTEMPTS = 0.01, 0.95, 5  # the paper's public code


@dataclass(slots=True)
class JudgeCalls:
    """The engine's side of one judge.

    Parameters
    ----------
    name: the judge's name in the pipeline.
    price: what its tokens cost, or None where that isn't known.
    rates: what may be sent a minute, or None where that isn't limited.
    flights: the questions under way, by the keys of their replies. Judges of one engine share them: two may be one
        model (at once and by batches, say), and then the reply to one is the other's, too.

    Attributes
    ----------
    server: what the judge's calls go through.
    latency: how long its replies take.
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
    server: Server = field(init=False)
    latency: Latency = field(default_factory=Latency)
    _readability: Readability = field(init=False)
    _prompt_share: float = 1.0
    _counted: Counted = field(default_factory=Counted)

    def __post_init__(self) -> None:
        self._readability = Readability(f"judges.{self.name}")
        self.server = Server(
            name=self.name,
            title=f"judges.{self.name}",
            component=self.judge,
            fault_reason=Reason.JUDGE_ERROR,
            identity=identity_text(self.judge.identity),
            journal=self.journal,
            ledger=self.ledger,
            max_concurrency=self.judge.max_concurrency,
            adapts=self.judge.capabilities.steady,
            rates=self.rates,
            price=self.price,
            model=model_of(self.judge.identity),
            listener=self.listener,
            keeps_calls=isinstance(self.judge, Detachable) and not self.judge.capabilities.steady,
        )

    # --- asking until the reply holds what was expected ---------------------------------------------------------

    @property
    def identity(self) -> str:
        """What the judge's replies depend on, as the journal keeps it."""
        return self.server.identity

    async def ask_many(self, questions: Sequence[Asked[Any]]) -> list[Outcome]:
        """The outcome of each question, in order."""
        if len(questions) == 1:  # without a task
            return [await self._outcome(questions[0])]
        return list(await asyncio.gather(*map(self._outcome, questions)))

    async def _outcome(self, asked: Asked[Any]) -> Outcome:
        try:
            return await self.ask(asked)
        except UnscorableError as error:
            return error

    async def ask(self, asked: Asked[T]) -> Answer[T]:
        """An answer, or :class:`lrf.errors.UnscorableError` after the last attempt with the reason of the last failure.

        Draws above 0 are made at the temperature of retries, so that they can differ.
        """
        prompt, expects, max_tokens, caller = asked.for_writing(), asked.expects, asked.max_tokens, asked.caller
        reply_mode = reply_mode_of(self.judge, expects, asked.reply_mode)
        failure = _NO_REPLY
        temperature = RETRY_TEMPERATURE if asked.repeat else FIRST_TEMPERATURE
        attempts, filtered = ATTEMPTS * (1 + caller.again), 0
        paid: list[Request] = []
        for attempt in range(attempts):
            request = Request(
                prompt=prompt,
                expects=expects,
                max_tokens=max_tokens,
                temperature=temperature,
                reply_mode=reply_mode,
                seed=self._seed(caller.round, asked.repeat, attempt),
                attempt=attempt,
                repeat=asked.repeat,
                round=caller.round + caller.take,
                material=len(asked.material),
            )
            reply = await self._once(request, caller, paid)
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
                as_it_comes = reply_mode == "logprobs" and asked.reply_mode == "auto"
                read_as = as_written(self.judge, reply) if as_it_comes else reply_mode
                try:
                    value, text = restored((expects.read(reply, read_as), reply.text), prompt)
                except ParseError as error:
                    failure, temperature = error.with_traceback(None), RETRY_TEMPERATURE
                else:
                    if paid:
                        self._readability.read(expects.kind)
                    return Answer(value, text, read_as, attempt + 1, reply.probabilities)
            self.ledger.lines[caller.dimension].asked_again += attempt < attempts - 1
        ended = f'; it ended with "{reply.finish_word}", which lrf does not know' if reply.finish_word else ""
        wrote = f'; the last reply: "{excerpt(reply.text)}"' if reply.text.strip() else ""
        detail = f"{failure.detail} (asked {attempts} times{ended}{wrote})"
        if paid and failure.reason != Reason.FILTERED:
            self._note_unread(expects.kind, failure.detail, reply.text)
        raise UnscorableError(failure.reason, detail)

    def _note_unread(self, kind: str, detail: str, reply: str) -> None:
        """Raises :class:`lrf.errors.StageError` if (nearly) nothing of what the judge was paid for can be read."""
        if hopeless := self._readability.unread(kind, detail, reply):
            raise hopeless

    def _seed(self, round_: int, repeat: int, attempt: int) -> int | None:
        """Another one for each request that is otherwise equal; None for a judge without seeds."""
        return self.seed + attempt + 1_000 * repeat + 1_000_000 * round_ if self.judge.capabilities.seed else None

    # --- one reply for one request ------------------------------------------------------------------------------

    async def _once(self, request: Request, caller: Caller, paid: list[Request]) -> Reply:
        """The reply to this request: from the journal, from the call that is already under way, or from the judge.

        A request that was paid for is added to ``paid``.
        """
        key = request_key(self.identity, request)
        landed = self.flights.landed
        if key not in self.flights and (kept := await self._kept(key, caller)) is not None:
            return kept  # without a task, which would take as long as the look-up
        if key in self.flights:
            self.ledger.lines[caller.dimension].reused += 1
        look_again = self.flights.landed_since(landed, key)  # its reply came while this was looked up
        return await self.flights.join(key, lambda: self._fetch(key, request, caller, paid, look=look_again))

    async def _kept(self, key: bytes, caller: Caller) -> Reply | None:
        kept = await self.journal.reply(key)
        if kept is not None:
            self.ledger.lines[caller.dimension].reused += 1
        return kept

    async def _fetch(
        self, key: bytes, request: Request, caller: Caller, paid: list[Request], *, look: bool = True
    ) -> Reply:
        """The reply, paid for; ``look``: unless it is kept by now."""
        if look and (kept := await self._kept(key, caller)) is not None:
            return kept
        await self._check_window(request)
        late = 0

        async def attempt() -> Reply:
            nonlocal late
            try:
                return await self._paid_call(key, request, caller, late).run()
            except TimedOutError:
                late += 1
                raise

        try:
            reply = await self.server.retries.run(attempt, caller.sample)
        except UnscorableError as error:
            if error.reason == Reason.PROMPT_CUT:
                self._note_unread(request.expects.kind, error.detail, "")
            raise
        paid.append(request)
        return reply

    async def _check_window(self, request: Request) -> None:
        """Raises :class:`lrf.errors.UnscorableError` for a request that is too long for the judge."""
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

    def _paid_call(self, key: bytes, request: Request, caller: Caller, late: int) -> PaidCall[Reply]:
        """The call for this request. ``late``: how often it was late already."""

        def worst() -> WorstCase:
            return worst_case_of(self.judge, request)

        async def send(deadline_s: float) -> tuple[Reply, Sequence[Usage]]:
            replied = check_reply(await self.judge.complete(request.within(deadline_s)))
            try:
                reply = storable_reply(without_thoughts(replied))
                check_ended(self.server.title, reply)
                if may_be_cut(request, reply):
                    tokens = await asyncio.to_thread(self._counted.tokens, request.prompt)
                    check_whole(self.server.title, reply, tokens)
            except JudgeError as error:
                error.usage = replied.usage
                raise
            return reply, (reply.usage,)

        async def commit(replied: Replied[Reply]) -> None:
            reply = replied.value
            await self.journal.commit_reply(
                key,
                self.identity,
                request,
                reply,
                sample=caller.sample,
                dimension=caller.dimension,
                seconds=replied.seconds,
                worst=(0, 0) if reply.usage.told else worst()[1:],
            )

        return PaidCall(
            server=self.server,
            caller=caller,
            kind=request.expects.kind,
            send=send,
            commit=commit,
            worst=worst,
            deadline_s=lambda: self._deadline_s(request, late),
            rated=self._rated(request),
            beginning=shared_beginning(request.prompt) if self.judge.capabilities.steady else None,
            attempt=request.attempt,
            learn=lambda replied, sent: self._learn(request, replied, sent),
            request=request,
            key=key,
        )

    def _rated(self, request: Request) -> Rated:
        """What the request counts as against what may be sent a minute, until its reply has come.

        The most that it may take; of the prompts' tokens the largest share of the most that any prompt had so far.
        """
        if self.rates is None:
            return Rated()
        worst = worst_case_of(self.judge, request)
        return Rated(worst.calls, worst.prompt * self._prompt_share + worst.reply)

    def _deadline_s(self, request: Request, late: int) -> float:
        """Seconds that this call may take: by the pace of other replies, twice as many for each time it was late."""
        longest_s: float = self.judge.request_timeout_s
        due_s = None
        if self.judge.capabilities.steady:
            due_s = self.latency.deadline_s(most_reply_tokens(self.judge, request.max_tokens))
        return longest_s if due_s is None else min(longest_s, due_s * 2.0**late)

    def _learn(self, request: Request, replied: Replied[Reply], sent: Sent | None) -> None:
        """Learn from a reply how long replies take, and how many tokens prompts have."""
        usage = replied.value.usage
        if sent and self.rates and (tokens := usage.prompt_tokens + usage.completion_tokens):
            self.rates.settle(sent, usage.calls, tokens)
            share = usage.prompt_tokens / max(1, usage.calls) / most_prompt_tokens(request)
            self._prompt_share = share if self._prompt_share == 1.0 else max(self._prompt_share, share)
        if self.judge.capabilities.steady:
            known = self.latency.known
            slowness = self.latency.slowness(replied.seconds, usage)
            if self.latency.known and not known:
                self._shorten()
            if slowness is not None and (usual := self.server.limiter.timed(slowness)) is not None:
                self.latency.accept(usual)

    def _shorten(self) -> None:
        """Give calls that were sent before the pace was known the deadline that follows from it."""
        now = asyncio.get_running_loop().time()
        for call in self.server.sent.values():
            if call.request is None or call.timeout is None or call.timeout.expired():
                continue
            if (when := call.timeout.when()) is not None:
                left_s = self._deadline_s(call.request, 0) - (time.monotonic() - call.began)
                call.timeout.reschedule(min(when, now + left_s))

    async def aclose(self) -> None:
        await self.flights.aclose()
        await self.server.lease.release()
        await self.judge.aclose()


def check_ended(title: str, reply: Reply) -> None:
    """Raises :class:`lrf.errors.UnavailableError` for a reply that the server broke off."""
    if reply.finish == "error":
        raise UnavailableError(f"{title}: the server broke the reply off", sent=True)


def storable_reply(reply: Reply) -> Reply:
    """The reply as the journal keeps it (without secrets), so that it reads the same today and when taken from there.

    Raises :class:`lrf.errors.BadReplyError` for probabilities outside 0 to 1.
    """
    if reply.probabilities is not None and not all(0 <= p <= 1 for p in reply.probabilities.values()):  # NaN included
        raise BadReplyError(f"the judge gave probabilities that are not from 0 to 1: {str(reply.probabilities)[:200]}")
    texts = (reply.text, reply.reasoning, reply.model, reply.finish_word)
    if not any(texts):
        return reply
    text, reasoning, model, word = (None if t is None else redact(storable(t)) for t in texts)
    if (text, reasoning, model, word) == texts:
        return reply
    return replace(reply, text=text or "", reasoning=reasoning, model=model, finish_word=word)
