"""Calls to the sampler: as those to a judge, journal first, limited, retried and paid for; a reply is a candidate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import CallListener, storable_reply
from lrf.engine.limiter import Limiter
from lrf.engine.rate_limits import RateLimits
from lrf.engine.retries import Retries
from lrf.engine.waits import Wait
from lrf.engine.worst_case import most_prompt_tokens
from lrf.errors import BadReplyError, JudgeError, Reason, RunInterruptedError, TimedOutError, UnscorableError
from lrf.prices import Price
from lrf.prompting.expectations import Text
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Prompt, Segment, shared_beginning
from lrf.protocols import GenerationSettings, Sampler
from lrf.store.files import dump
from lrf.store.journal import Journal, identity_text, request_key
from lrf.text.chunking import count_tokens

KIND = "candidate"


@dataclass(slots=True)
class SamplerCalls:
    """The engine's side of the sampler. ``name`` is what the books call it."""

    name: str
    sampler: Sampler
    journal: Journal
    ledger: BudgetLedger
    listener: CallListener | None = None
    price: Price | None = None
    rates: RateLimits | None = None
    limiter: Limiter = field(init=False)
    retries: Retries = field(init=False)
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.sampler.max_concurrency, self.rates)
        self.retries = Retries("sample", self.limiter)
        self.identity = identity_text(self.sampler.identity)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The wait before another try, if calls wait for one."""
        return self.retries.waits

    @property
    def retried(self) -> Mapping[str, int]:
        """How many tries were made again, by the name that :attr:`waits` uses."""
        return {self.retries.name: self.retries.count}

    async def draw(self, generation: GenerationSettings, sample: str, position: int) -> list[Reply]:
        """A reply for each of the generation's seeds, in order: kept ones from the journal, the others drawn.

        Raises :class:`lrf.errors.UnscorableError` when some can't be had; those that came are kept.
        """
        requests = requests_of(generation, seeded=self.sampler.capabilities.seed)
        keys = [request_key(self.identity, r) for r in requests]
        kept = await asyncio.gather(*(self.journal.reply(key) for key in keys))
        replies: dict[int, Reply] = {i: reply for i, reply in enumerate(kept) if reply is not None}
        self.ledger.lines[self.name].reused += len(replies)
        missing = [i for i in range(len(keys)) if i not in replies]
        if missing:
            await asyncio.to_thread(self._check_window, generation)
        size = self.sampler.per_call

        async def part(places: Sequence[int]) -> None:
            wanted = replace(generation, seeds=tuple(generation.seeds[i] for i in places))
            asked = [requests[i] for i in places]
            found = await self.retries.run(
                lambda: self._call(wanted, [keys[i] for i in places], asked, sample, position)
            )
            replies.update(zip(places, found, strict=True))

        parts = [part(missing[i : i + size]) for i in range(0, len(missing), size)]
        outcomes = await asyncio.gather(*parts, return_exceptions=True)
        errors = [o for o in outcomes if isinstance(o, BaseException)]
        if errors:  # one that stops the run counts before one that leaves the sample out
            raise min(errors, key=lambda e: isinstance(e, UnscorableError))
        return [replies[i] for i in range(len(keys))]

    def _check_window(self, generation: GenerationSettings) -> None:
        """Raises :class:`lrf.errors.UnscorableError` for a prompt that is too long for the sampler. Counts tokens: slow."""
        can = self.sampler.capabilities
        if can.context_window is None:
            return
        calls = [call for m in generation.messages for call in m.tool_calls]
        texts = [*(m.content for m in generation.messages), *(call.name + dump(dict(call.arguments)) for call in calls)]
        tokens = sum(map(count_tokens, (*texts, *(dump(dict(tool)) for tool in generation.tools))))
        longest = generation.max_tokens + can.reasoning_tokens
        if tokens + longest > can.context_window:
            raise UnscorableError(
                Reason.CONTEXT_TOO_SMALL,
                f"the prompt has {tokens} tokens and a candidate may have {longest}; the sampler takes "
                f"{can.context_window} together (`context_window`)",
            )

    def _worst(self, requests: Sequence[Request]) -> tuple[int, int]:
        """(tokens, money) that a call for these candidates may take; zeros where no budget asks for them."""
        budget = self.ledger.budget
        if budget.tokens is None and budget.money is None:
            return 0, 0
        prompt, written = most_tokens(self.sampler, requests)
        return prompt + written, self.price.most(prompt, written) if self.price else 0

    async def _call(
        self,
        generation: GenerationSettings,
        keys: Sequence[bytes],
        requests: Sequence[Request],
        sample: str,
        position: int,
    ) -> Sequence[Reply]:
        calls, (tokens, money) = len(keys), self._worst(requests)
        likely = sum(most_tokens(self.sampler, requests)) if self.rates else 0
        beginning = shared_beginning(requests[0].prompt, whole=True)
        async with self.limiter.slot((position, 0), 1, likely, beginning) as sent:
            await self.ledger.admit(tokens, money, calls=calls)
            if self.limiter.draining:
                self.ledger.release(tokens, money, calls=calls)
                raise RunInterruptedError("the run is being stopped")
            replies: list[Reply] = []
            reason: str | None = "cancelled"
            began = time.monotonic()
            try:
                async with asyncio.timeout(self.sampler.request_timeout_s):
                    replies = [storable_reply(r) for r in await self.sampler.sample(generation)]
                if len(replies) != calls:
                    raise BadReplyError(f"the sampler gave {len(replies)} candidates where {calls} were asked for")
                reason = None
            except TimeoutError:
                reason = TimedOutError.reason
                raise TimedOutError(f"no candidate within {self.sampler.request_timeout_s:g} s") from None
            except JudgeError as error:
                reason = error.reason
                raise
            except RunInterruptedError:  # left to the server
                raise
            except Exception:  # a plugin's own fault
                reason = JudgeError.reason
                raise
            finally:
                seconds = time.monotonic() - began
                self.ledger.release(tokens, money, calls=calls)
                if not replies and reason != "cancelled":  # given up: no fault
                    self.ledger.book(self.name, None)
                for reply in replies:
                    self.ledger.book(self.name, reply.usage, self.price)
                took = sum(r.usage.prompt_tokens + r.usage.completion_tokens for r in replies)
                if replies and not took:  # the server tells no usage: the most counts
                    self.ledger.carry(0, tokens, money)
                if sent and self.rates and took:
                    self.rates.settle(sent, 1, took)
                if self.listener:
                    self.listener(self.name, KIND, sample, 0, seconds, reason)
            self.limiter.replied()
        most = [(0, 0)] * calls
        if not took:
            most = [most_tokens(self.sampler, [r]) for r in requests]
            most[1:] = [(0, written) for _, written in most[1:]]  # the prompt is computed once
        try:
            await asyncio.gather(
                *(
                    self.journal.commit_reply(
                        key,
                        self.identity,
                        request,
                        reply,
                        sample=sample,
                        dimension=self.name,
                        seconds=seconds,
                        worst=of_one,
                    )
                    for key, request, reply, of_one in zip(keys, requests, replies, most, strict=True)
                )
            )
        finally:
            self.limiter.written()
        return replies

    def drain(self) -> None:
        """Let what is in flight finish, and nothing else start."""
        self.limiter.drain()

    async def aclose(self) -> None:
        await self.sampler.aclose()


def requests_of(generation: GenerationSettings, *, seeded: bool) -> list[Request]:
    """What each candidate is kept under. Those of a sampler that isn't ``seeded`` are told apart by their number."""
    prompt = _segments(generation)
    kind = KIND if generation.top_p == 1 else f"{KIND} top_p {generation.top_p!r}"
    return [
        Request(
            prompt=prompt,
            expects=Text(kind),
            max_tokens=generation.max_tokens,
            temperature=generation.temperature,
            seed=seed if seeded else None,
            repeat=number,
        )
        for number, seed in enumerate(generation.seeds)
    ]


def most_tokens(sampler: Sampler, requests: Sequence[Request]) -> tuple[int, int]:
    """The most tokens of prompt and of candidates that one call for these can take."""
    longest = sum(r.max_tokens + sampler.capabilities.reasoning_tokens for r in requests)
    return (most_prompt_tokens(requests[0]) if requests else 0), longest


def _segments(generation: GenerationSettings) -> Prompt:
    """The prompt as the journal keeps it: a segment a turn, so that what samples share is stored once."""
    segments = [Segment(dump(list(map(dict, generation.tools))) + "\n", trusted=False)] if generation.tools else []
    return (*segments, *(Segment(dump(m.as_row()) + "\n", trusted=False) for m in generation.messages))
