"""Calls to a judge that takes many questions on one material: packed, and each question's reply kept by itself.

A question's key in the journal depends on the material and the question, not on what it was packed with. So a resumed
run sends only what it has no reply to, and what fails concerns its question alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

from lrf.engine.checks import check_answers
from lrf.engine.judge_calls import JudgeCalls, check_ended, storable_reply
from lrf.engine.packing import GatheredQuestion, current_worker
from lrf.engine.paid_call import Caller, PaidCall, Rated, Replied, sum_usages
from lrf.engine.prompt_cut import BYTES_A_TOKEN, LEAST_SHARE, LEAST_TOKENS
from lrf.engine.reply_modes import reply_mode_of
from lrf.engine.worst_case import (
    CHAT_TOKENS,
    DECISION_TOKENS,
    WorstCase,
    most_question_tokens,
    most_tokens,
    worst_case_of,
)
from lrf.errors import BadReplyError, JudgeError, ParseError, Reason, UnscorableError
from lrf.prompting.labels import label_of
from lrf.prompting.questions import asked_of, material_of, without_reply_form
from lrf.prompting.requests import Answer, Expectation, RatingMode, Reply, Request, Usage
from lrf.prompting.templates import Prompt, restored
from lrf.protocols import AnswersSeveral, Judge
from lrf.store.journal import request_key
from lrf.text.chunking import count_tokens

T = TypeVar("T")

UNANSWERED: dict[str, tuple[Reason, str]] = {
    "missing": (Reason.NO_ANSWER, "the judge's reply has no answer to this question"),
    "filter": (Reason.FILTERED, "the judge refused this question"),
    "cut": (Reason.PROMPT_CUT, "the server dropped a part of what the question was asked on"),
    "length": (Reason.PROMPT_CUT, "the server cut the question off"),
}
"""What the end of a reply without an answer comes to."""


@dataclass(slots=True, eq=False)
class PackedQuestion:
    """A question that no journal has a reply to, and the future that its reply is set to."""

    key: bytes
    question: GatheredQuestion
    reply: asyncio.Future[Reply]

    @property
    def request(self) -> Request:
        return self.question.request


@dataclass(slots=True, eq=False)
class PackedCalls(JudgeCalls):
    """The engine's side of a judge that takes several questions in a request."""

    def _packs(self, material: int) -> bool:
        """Whether a prompt with this much material is decided. A judge that also writes decides questions only."""
        return material > 0 or self.judge.capabilities.kinds is not None

    async def ask(
        self,
        prompt: Prompt,
        expects: Expectation[T],
        max_tokens: int,
        caller: Caller,
        *,
        reply_mode: RatingMode = "auto",
        repeat: int = 0,
        material: int = 0,
    ) -> Answer[T]:
        """The answer to a question. Asked once: the same material and question bring the same probabilities.

        Raises :class:`lrf.errors.UnscorableError` for a question that was refused, left out or cut off.
        """
        if not self._packs(material) or not expects.options:
            return await JudgeCalls.ask(
                self, prompt, expects, max_tokens, caller, reply_mode=reply_mode, repeat=repeat, material=material
            )
        reply_mode_of(self.judge, expects, "logprobs")
        prompt = without_reply_form(prompt)
        for attempt in range(1 + caller.again):
            request = Request(
                prompt=prompt,
                expects=expects,
                max_tokens=DECISION_TOKENS,
                temperature=0.0,
                reply_mode="logprobs",
                seed=self._seed(caller.round, repeat, attempt),
                attempt=attempt,
                repeat=repeat,
                round=caller.round + caller.take,
                material=material,
            )
            question = await self._asked(request, caller)
            reply = question.reply.result()
            try:
                value = _read(expects, reply)
            except ParseError as error:
                failure = error.with_traceback(None)
                continue
            if question.paid:
                self._readability.read(expects.kind)
            return Answer(value, restored(reply.text, prompt), "logprobs", attempt + 1, reply.probabilities)
        if question.paid and failure.reason != Reason.FILTERED:
            self._note_unread(expects.kind, failure.detail, reply.text)
        raise UnscorableError(failure.reason, f"{failure.detail} ({self.server.title})")

    async def _asked(self, request: Request, caller: Caller) -> GatheredQuestion:
        """The question with its reply: gathered with others on the same material, or sent by itself without any."""
        worker = current_worker()
        if worker is not None and request.material:
            return await worker.ask(self.send, request, caller)
        question = GatheredQuestion(request, caller, (0, 0, ""), asyncio.get_running_loop().create_future())
        await self.send([question])
        await question.reply
        return question

    # --- from questions to requests ------------------------------------------------------------------------------

    async def send(self, questions: Sequence[GatheredQuestion]) -> None:
        """Set the reply of each question, or why it has none: from the journal, from calls under way, or packed.

        The first request of several goes alone, so that the server has what they all begin with when they come.
        """
        new: list[PackedQuestion] = []
        for question in questions:
            key = request_key(self.identity, question.request)
            packed = PackedQuestion(key, question, asyncio.get_running_loop().create_future())
            if key in self.flights:
                self.ledger.lines[question.caller.dimension].reused += 1
            else:
                new.append(packed)
            waiter = self.flights.join(key, partial(_awaited, packed.reply))  # of the call under way, if there is one
            waiter.add_done_callback(partial(_hand_on, question.reply))
        try:
            first, *others = await self._requests(await self._not_kept(new)) or [[]]
            await self._fly(first)
            await asyncio.gather(*map(self._fly, others))
        except BaseException as error:
            for packed in new:
                _fail(packed.reply, error)
            if not isinstance(error, Exception):
                raise

    async def _not_kept(self, new: Sequence[PackedQuestion]) -> list[PackedQuestion]:
        """The questions that the journal has no reply to; the others get theirs."""
        kept = await asyncio.gather(*(self.kept(packed) for packed in new))
        for packed, reply in zip(new, kept, strict=True):
            if reply is not None:
                self.ledger.lines[packed.question.caller.dimension].reused += 1
                packed.reply.set_result(reply)
        return [packed for packed, reply in zip(new, kept, strict=True) if reply is None]

    async def kept(self, packed: PackedQuestion) -> Reply | None:
        """The reply that the journal has to a question, or None."""
        return await self.journal.reply(packed.key)

    async def _requests(self, new: Sequence[PackedQuestion]) -> list[list[PackedQuestion]]:
        """The questions as requests: those on the same material together, within the judge's limits, in their order.

        A question that is too long with its material gets its error.
        """
        by_material: dict[Prompt, list[PackedQuestion]] = {}
        for packed in new:
            by_material.setdefault(material_of(packed.request), []).append(packed)
        sizes = await asyncio.to_thread(self._sizes, by_material)
        window, most = self.judge.capabilities.context_window, self.judge.capabilities.questions
        requests: list[list[PackedQuestion]] = []
        for material, of_material in by_material.items():
            taken, request = 0, list[PackedQuestion]()
            for packed in of_material:
                tokens = sizes[packed.key]
                if window is not None and sizes[material] + tokens > window:
                    self._refuse(packed, sizes[material] + tokens, window)
                    continue
                full = window is not None and sizes[material] + taken + tokens > window
                if request and (full or len(request) == most or not material):
                    requests.append(request)
                    taken, request = 0, []
                request.append(packed)
                taken += tokens
            requests += [request] if request else []
        return requests

    def _sizes(self, by_material: dict[Prompt, list[PackedQuestion]]) -> dict[Prompt | bytes, int]:
        """Tokens of each material, and of each question by its key. Blocks."""
        if self.judge.capabilities.context_window is None:
            return dict.fromkeys([*by_material, *(p.key for several in by_material.values() for p in several)], 0)
        sizes: dict[Prompt | bytes, int] = {m: self._counted.tokens(m) + CHAT_TOKENS for m in by_material}
        for packed in (packed for several in by_material.values() for packed in several):
            asked = self._counted.tokens(asked_of(packed.request))
            sizes[packed.key] = asked + question_tokens(packed.request.options)
        return sizes

    def _refuse(self, packed: PackedQuestion, tokens: int, window: int) -> None:
        detail = f"material and question have {tokens} tokens; judges.{self.name} takes {window} (`context_window`)"
        _fail(packed.reply, UnscorableError(Reason.CONTEXT_TOO_SMALL, detail))

    # --- one request -------------------------------------------------------------------------------------------

    async def _fly(self, request: Sequence[PackedQuestion]) -> None:
        """Set the replies of one request's questions."""
        if not request:
            return
        try:
            replies = await self.replies(request)
        except BaseException as error:
            for packed in request:
                _fail(packed.reply, error)
            if not isinstance(error, Exception):
                raise
            return
        for packed, reply in zip(request, replies, strict=True):
            if isinstance(reply, UnscorableError):
                _fail(packed.reply, reply)
            elif not packed.reply.done():
                packed.question.paid = True
                packed.reply.set_result(reply)

    async def replies(self, request: Sequence[PackedQuestion]) -> Sequence[Reply | UnscorableError]:
        """A reply or an error for each question; a request that is refused is sent again in halves."""
        try:
            return await self.server.retries.run(lambda: self._call(request), request[0].question.caller.sample)
        except UnscorableError as error:
            one_to_blame = error.reason == Reason.CONTEXT_TOO_SMALL or self.server.retries.served_any
            if len(request) == 1 or error.transient or not one_to_blame:
                return [error] * len(request)
        half = len(request) // 2
        halves = await asyncio.gather(self.replies(request[:half]), self.replies(request[half:]))
        return [*halves[0], *halves[1]]

    async def _call(self, request: Sequence[PackedQuestion]) -> Sequence[Reply]:
        """The replies of one call, kept in the journal."""
        judge, requests = self.judge, [packed.request for packed in request]
        assert isinstance(judge, AnswersSeveral)

        async def send(deadline_s: float) -> tuple[Sequence[Reply], Sequence[Usage]]:
            given = await judge.complete_several([replace(r, deadline_s=deadline_s) for r in requests])
            replies = check_answers(self.server.title, judge, given, len(requests))
            usages = [reply.usage for reply in replies]
            try:
                replies = [_storable(self.server.title, reply) for reply in replies]
            except JudgeError as error:
                error.usage = sum_usages(usages)
                raise
            if await self._was_cut(requests, usages):
                replies = [replace(reply, finish="cut", probabilities=None) for reply in replies]
            return replies, usages

        call = PaidCall[Sequence[Reply]](
            server=self.server,
            caller=request[0].question.caller,
            kind="questions" if len(request) > 1 else requests[0].expects.kind,
            send=send,
            commit=partial(self._commit, request),
            worst=lambda: worst_of_pack(self.judge, requests),
            deadline_s=lambda: judge.request_timeout_s,
            rated=Rated(1, worst_of_pack(self.judge, requests).prompt * self._prompt_share) if self.rates else Rated(),
            attempt=requests[0].attempt,
            dimensions=[packed.question.caller.dimension for packed in request],
        )
        return await call.run()

    async def _commit(self, request: Sequence[PackedQuestion], replied: Replied[Sequence[Reply]]) -> None:
        """Keep all replies of a call; the seconds and the worst case are the first one's."""
        requests = [packed.request for packed in request]
        told = any(reply.usage.told for reply in replied.value)
        untold = (0, 0) if told else worst_of_pack(self.judge, requests)[1:]
        kept = []
        for place, (packed, reply) in enumerate(zip(request, replied.value, strict=True)):
            caller = packed.question.caller
            kept.append(
                self.journal.commit_reply(
                    packed.key,
                    self.identity,
                    packed.request,
                    reply,
                    sample=caller.sample,
                    dimension=caller.dimension,
                    seconds=0.0 if place else replied.seconds,
                    worst=(0, 0) if place else untold,
                )
            )
        await asyncio.gather(*kept)

    async def _was_cut(self, requests: Sequence[Request], usages: Sequence[Usage]) -> bool:
        """Whether the server counted far fewer tokens than material and questions have."""
        told = sum(usage.prompt_tokens for usage in usages)
        if not told or BYTES_A_TOKEN * told >= most_tokens(_texts(requests)):
            return False  # a quick look, before tokens are counted
        tokens = await asyncio.to_thread(lambda: sum(map(self._counted.tokens, _texts(requests))))
        return tokens >= LEAST_TOKENS and told < LEAST_SHARE * tokens


def _read(expects: Expectation[T], reply: Reply) -> T:
    """The value in a reply. Raises :class:`lrf.errors.ParseError` for one without an answer."""
    if reply.finish in UNANSWERED:
        raise ParseError(*UNANSWERED[reply.finish])
    return expects.read(reply, "logprobs")


@lru_cache(256)
def question_tokens(options: tuple[str, ...]) -> int:
    """About as many tokens as a question has besides its text: its type, its id, and its options."""
    return 16 + sum(4 + count_tokens(label_of(option)) for option in options)


def worst_of_pack(judge: Judge, requests: Sequence[Request]) -> WorstCase:
    """The most that one call with these questions can take. A judge that also writes reads the material for each."""
    if judge.capabilities.kinds is None:
        worst = [worst_case_of(judge, request) for request in requests]
        return WorstCase(*(sum(numbers) for numbers in zip(*worst, strict=True)))
    asked = sum(most_question_tokens(request) for request in requests)
    return WorstCase(1, CHAT_TOKENS + most_tokens(_texts(requests)) + asked, DECISION_TOKENS * len(requests))


def _texts(requests: Sequence[Request]) -> Iterable[Prompt]:
    """What a call sends: the material once, and each question."""
    return [material_of(requests[0]), *(asked_of(request) for request in requests)]


def _storable(title: str, reply: Reply) -> Reply:
    check_ended(title, reply)
    try:
        return storable_reply(reply)
    except BadReplyError:  # of one question, which concerns no other
        return replace(reply, finish="missing", probabilities=None)


def _hand_on(future: asyncio.Future[Reply], waiter: asyncio.Future[Reply]) -> None:
    """Set the future to what the waiter brought."""
    if future.done():
        _seen(waiter)
    elif waiter.cancelled():
        future.cancel()
    elif (error := waiter.exception()) is not None:
        future.set_exception(error)
        future.exception()  # seen, also when nobody waits any more
    else:
        future.set_result(waiter.result())


def _seen(waiter: asyncio.Future[Reply]) -> None:
    if not waiter.cancelled():
        waiter.exception()


def _fail(future: asyncio.Future[Reply], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
        return
    future.set_exception(error)
    future.exception()


async def _awaited(reply: asyncio.Future[Reply]) -> Reply:
    return await reply
