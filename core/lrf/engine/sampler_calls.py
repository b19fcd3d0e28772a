"""Calls to the sampler: like those to a judge (journal first, limited, retried, paid); a reply is a candidate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lrf.engine.budget import BudgetLedger
from lrf.engine.checks import check_replies
from lrf.engine.judge_calls import check_ended, storable_reply
from lrf.engine.paid_call import Caller, PaidCall, Rated, Replied, sum_usages
from lrf.engine.queue import short_of_calls
from lrf.engine.rate_limits import RateLimits, Sent
from lrf.engine.server import CallListener, Server, model_of
from lrf.engine.stop import Stop
from lrf.engine.waits import Wait
from lrf.engine.worst_case import WorstCase, most_prompt_tokens
from lrf.errors import JudgeError, LrfError, Reason, UnscorableError
from lrf.prices import Price
from lrf.prompting.expectations import Text
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Prompt, Segment, shared_beginning
from lrf.protocols import GenerationSettings, Sampler
from lrf.store.files import dump
from lrf.store.journal import Journal, identity_text, request_key
from lrf.text.chunking import count_tokens

KIND = "candidate"


@dataclass(slots=True)
class SamplerCalls:
    """The engine's side of the sampler.

    Parameters
    ----------
    name: what counts and prices call it.
    price: what its tokens cost, or None where that isn't known.
    rates: what may be sent a minute, or None where that isn't limited.

    Attributes
    ----------
    server: what the sampler's calls go through.
    stop: stops the sampling.
    moved: set whenever a call ends.
    """

    name: str
    sampler: Sampler
    journal: Journal
    ledger: BudgetLedger
    listener: CallListener | None = None
    price: Price | None = None
    rates: RateLimits | None = None
    server: Server = field(init=False)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    _flights: dict[bytes, asyncio.Task[dict[bytes, Reply]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = Server(
            name=self.name,
            title="sample",
            component=self.sampler,
            fault_reason=Reason.SAMPLER_ERROR,
            identity=identity_text(self.sampler.identity),
            journal=self.journal,
            ledger=self.ledger,
            max_concurrency=self.sampler.max_concurrency,
            rates=self.rates,
            price=self.price,
            model=model_of(self.sampler.identity),
            listener=self.listener,
        )
        self.server.lease.dimension = self.name
        self.server.queue.on_move = self._moved
        self.stop.listen(self.moved.set)

    @property
    def stop(self) -> Stop:
        return self.server.queue.stop

    @property
    def slots(self) -> int:
        """The most calls in flight."""
        return self.server.limiter.ceiling

    @property
    def short(self) -> bool:
        """Whether fewer calls are in flight and waiting than fill the slots and half as many again."""
        return short_of_calls([self.server.queue])

    def _moved(self) -> None:
        if self.short:
            self.moved.set()

    @property
    def in_flight(self) -> int:
        """Calls that have a slot."""
        return self.server.queue.in_flight

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The wait before another attempt, if calls wait for one."""
        return self.server.retries.waits

    @property
    def retried(self) -> Mapping[str, int]:
        """How many attempts were made again, by the name that :attr:`waits` uses."""
        return {self.server.retries.name: self.server.retries.count}

    async def draw(self, generation: GenerationSettings, sample: str, position: int) -> list[Reply]:
        """A reply for each of the generation's seeds, in order: from the journal, or else sampled.

        Equal requests that are under way for another sample are not made again. Raises
        :class:`lrf.errors.UnscorableError` when some candidates can't be sampled; the others are kept.
        """
        requests = requests_of(generation, seeded=self.sampler.capabilities.seed)
        keys = [request_key(self.server.identity, r) for r in requests]
        new = [i for i, key in enumerate(keys) if key not in self._flights]
        self.ledger.lines[self.name].reused += len(keys) - len(new)
        if new:
            seeds = tuple(generation.seeds[i] for i in new)
            caller = Caller(sample, self.name, position)
            self._begin([keys[i] for i in new], replace(generation, seeds=seeds), [requests[i] for i in new], caller)
        replies: dict[bytes, Reply] = {}
        for flight in dict.fromkeys([self._flights[key] for key in keys]):
            replies |= await asyncio.shield(flight)  # others may wait for it, too
        return [replies[key] for key in keys]

    def _begin(
        self, keys: Sequence[bytes], generation: GenerationSettings, requests: Sequence[Request], caller: Caller
    ) -> None:
        """Begin to look up and sample the replies of these requests."""
        flight = asyncio.create_task(self._fetch(keys, generation, requests, caller))
        self._flights.update(dict.fromkeys(keys, flight))

        def ended(_: object) -> None:
            for key in keys:
                del self._flights[key]
            if not flight.cancelled():
                flight.exception()  # seen, also when nobody waits any more

        flight.add_done_callback(ended)

    async def _fetch(
        self, keys: Sequence[bytes], generation: GenerationSettings, requests: Sequence[Request], caller: Caller
    ) -> dict[bytes, Reply]:
        """The replies by key, those that are missing in the journal from calls."""
        kept = await asyncio.gather(*(self.journal.reply(key) for key in keys))
        replies = {i: reply for i, reply in enumerate(kept) if reply is not None}
        self.ledger.lines[self.name].reused += len(replies)
        missing = [i for i in range(len(keys)) if i not in replies]
        if missing:
            await asyncio.to_thread(self._check_window, generation)
        size = self.sampler.per_call

        async def part(places: Sequence[int]) -> None:
            wanted = replace(generation, seeds=tuple(generation.seeds[i] for i in places))
            call_keys, call_requests = [keys[i] for i in places], [requests[i] for i in places]
            sampled = await self.server.retries.run(
                lambda: self._paid_call(wanted, call_keys, call_requests, caller).run(), caller.sample
            )
            replies.update(zip(places, sampled, strict=True))

        parts = [part(missing[i : i + size]) for i in range(0, len(missing), size)]
        outcomes = await asyncio.gather(*parts, return_exceptions=True)
        errors = [o for o in outcomes if isinstance(o, BaseException)]
        if errors:  # one that stops the run counts before one that leaves the sample out
            raise min(errors, key=lambda e: isinstance(e, UnscorableError))
        return {key: replies[i] for i, key in enumerate(keys)}

    def _check_window(self, generation: GenerationSettings) -> None:
        """Raises :class:`lrf.errors.UnscorableError` for a prompt that is too long. Counts tokens: slow."""
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

    def _paid_call(
        self, generation: GenerationSettings, keys: Sequence[bytes], requests: Sequence[Request], caller: Caller
    ) -> PaidCall[list[Reply]]:
        """The call for these candidates of one prompt."""

        def worst() -> WorstCase:
            return WorstCase(len(keys), *most_tokens(self.sampler, requests))

        async def send(_deadline_s: float) -> tuple[list[Reply], Sequence[Usage]]:
            sampled = await self.sampler.sample(generation)
            try:
                replies = check_replies(self.server.title, self.sampler, sampled, len(keys))
                for reply in replies:
                    check_ended(self.server.title, reply)
                return [storable_reply(reply) for reply in replies], [reply.usage for reply in replies]
            except JudgeError as error:
                error.usage = sum_usages([reply.usage for reply in sampled])
                raise

        async def commit(replied: Replied[list[Reply]]) -> None:
            worst_each = [(0, 0)] * len(keys)
            if not any(usage.told for usage in replied.usages):
                worst_each = [most_tokens(self.sampler, [request]) for request in requests]
                worst_each[1:] = [(0, written) for _, written in worst_each[1:]]  # the prompt is computed once
            rows = zip(keys, requests, replied.value, worst_each, strict=True)
            kept = asyncio.gather(*(self._keep(*row, caller, replied.seconds) for row in rows))
            await asyncio.shield(kept)  # they are paid for, also if nobody waits for them any more

        def learn(replied: Replied[list[Reply]], sent: Sent | None) -> None:
            tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in replied.usages)
            if sent and self.rates and tokens:
                self.rates.settle(sent, 1, tokens)

        return PaidCall(
            server=self.server,
            caller=caller,
            kind=KIND,
            send=send,
            commit=commit,
            worst=worst,
            deadline_s=lambda: self.sampler.request_timeout_s,
            rated=Rated(1, sum(most_tokens(self.sampler, requests)) if self.rates else 0),
            beginning=shared_beginning(requests[0].prompt, whole=True),
            learn=learn,
        )

    async def _keep(
        self, key: bytes, request: Request, reply: Reply, worst: tuple[int, int], caller: Caller, seconds: float
    ) -> None:
        await self.journal.commit_reply(
            key,
            self.server.identity,
            request,
            reply,
            sample=caller.sample,
            dimension=self.name,
            seconds=seconds,
            worst=worst,
        )

    def drain(self, reason: LrfError | None = None) -> None:
        """Stop: calls in flight are finished and kept, no other begins. The first reason given counts."""
        self.stop.set(reason)

    async def aclose(self) -> None:
        flights = set(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self.server.lease.release()
        await self.sampler.aclose()


def requests_of(generation: GenerationSettings, *, seeded: bool) -> list[Request]:
    """The requests under which the candidates are kept. Without seeds they differ by their number."""
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
