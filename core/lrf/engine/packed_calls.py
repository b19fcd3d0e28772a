"""Calls to a judge that takes many questions on one material: packed, and each question's reply kept by itself.

A question's key in the journal depends on the material and the question, not on what it was packed with. So a resumed
run sends only what it has no reply to, and what fails concerns its question alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

from lrf.engine.asked import Asked, Outcome
from lrf.engine.checks import check_answers
from lrf.engine.judge_calls import JudgeCalls, check_ended, storable_reply
from lrf.engine.packing import GatheredQuestion, current_worker, group_of
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
from lrf.prompting.questions import asked_of, material_of
from lrf.prompting.requests import Answer, Reply, Request, Usage
from lrf.prompting.templates import Prompt, restored
from lrf.protocols import AnswersSeveral, Judge
from lrf.store.journal import Kept, request_key
from lrf.text.chunking import count_tokens

T = TypeVar("T")

UNANSWERED: dict[str, tuple[Reason, str]] = {
    "missing": (Reason.NO_ANSWER, "the judge's reply has no answer to this question"),
    "filter": (Reason.FILTERED, "the judge refused this question"),
    "cut": (Reason.PROMPT_CUT, "the server dropped a part of what the question was asked on"),
    "length": (Reason.PROMPT_CUT, "the server cut the question off"),
}
"""The reason for a question without an answer, by how its reply ended."""


@dataclass(slots=True, eq=False)
class PackedCalls(JudgeCalls):
    """The engine's side of a judge that takes several questions in a request."""

    def _decides(self, asked: Asked[Any]) -> bool:
        """Whether this is decided. A judge that also writes decides questions on material only."""
        return bool(asked.expects.options) and (bool(asked.material) or self.judge.capabilities.kinds is not None)

    async def ask(self, asked: Asked[T]) -> Answer[T]:
        if not self._decides(asked):
            return await JudgeCalls.ask(self, asked)
        (outcome,) = await self._decided([asked])
        if isinstance(outcome, UnscorableError):
            raise outcome
        return outcome

    async def ask_many(self, questions: Sequence[Asked[Any]]) -> list[Outcome]:
        if not all(map(self._decides, questions)):
            return await JudgeCalls.ask_many(self, questions)
        return await self._decided(questions)

    async def _decided(self, questions: Sequence[Asked[Any]]) -> list[Outcome]:
        """The outcome of each question. Asked once: the same material and question bring the same probabilities.

        A question that was refused, left out or cut off has the error that says so.
        """
        outcomes: dict[int, Outcome] = {}
        left = []
        for place, asked in enumerate(questions):
            try:
                reply_mode_of(self.judge, asked.expects, "logprobs")
                left.append(place)
            except UnscorableError as error:
                outcomes[place] = error
        attempt = 0
        while left:
            gathered = await self._gathered([self._request(questions[n], attempt) for n in left], questions[0].caller)
            attempt += 1
            last, unread = attempt > questions[0].caller.again, []
            for place, question in zip(left, gathered, strict=True):
                try:
                    outcomes[place] = self._read(questions[place], question, attempt)
                except ParseError as error:
                    if last:
                        outcomes[place] = self._unreadable(question, error)
                    else:
                        unread.append(place)
            left = unread
        return [outcomes[place] for place in range(len(questions))]

    def _request(self, asked: Asked[Any], attempt: int) -> Request:
        return Request(
            prompt=(*asked.material, *asked.prompt),
            expects=asked.expects,
            max_tokens=DECISION_TOKENS,
            temperature=0.0,
            reply_mode="logprobs",
            seed=self._seed(asked.caller.round, asked.repeat, attempt),
            attempt=attempt,
            repeat=asked.repeat,
            round=asked.caller.round + asked.caller.take,
            material=len(asked.material),
        )

    def _read(self, asked: Asked[Any], question: GatheredQuestion, attempt: int) -> Outcome:
        """The outcome of a question. Raises :class:`lrf.errors.ParseError` for a reply without an answer."""
        reply = question.outcome
        if isinstance(reply, UnscorableError):
            return reply
        assert isinstance(reply, Reply)
        if reply.finish in UNANSWERED:
            raise ParseError(*UNANSWERED[reply.finish])
        value = asked.expects.read(reply, "logprobs")
        if question.paid:
            self._readability.read(asked.expects.kind)
        text = restored(reply.text, question.request.prompt) if reply.text else ""
        return Answer(value, text, "logprobs", attempt, reply.probabilities)

    def _unreadable(self, question: GatheredQuestion, error: ParseError) -> UnscorableError:
        """The error of a question whose last reply had no answer."""
        text = question.outcome.text if isinstance(question.outcome, Reply) else ""
        if question.paid and error.reason != Reason.FILTERED:
            self._note_unread(question.request.expects.kind, error.detail, text)
        return UnscorableError(error.reason, f"{error.detail} ({self.server.title})")

    async def _gathered(self, requests: Sequence[Request], caller: Caller) -> Sequence[GatheredQuestion]:
        """The questions with their outcomes: gathered with others on the same material, or sent at once without any."""
        worker = current_worker()
        if worker is not None and requests[0].material:
            return await worker.ask(self.send, requests, caller)
        group = group_of(requests, caller)
        await self.send(group.questions)
        await group.done
        return group.questions

    # --- from questions to requests ------------------------------------------------------------------------------

    async def send(self, questions: Sequence[GatheredQuestion]) -> None:
        """Settle each question: from the journal, from calls under way, or packed.

        The first request of several goes alone, so that the server has what they all begin with when they come; and it
        goes before those of earlier samples, so that there is always something to send.
        """
        new: list[GatheredQuestion] = []
        for question in questions:
            question.key = request_key(self.identity, question.request)
            if question.key in self.flights:
                self.ledger.lines[question.caller.dimension].reused += 1
                self.flights.wait(question.key).add_done_callback(partial(_follow, question))
            else:
                self.flights.lead(question.key)
                new.append(question)
        try:
            first, *others = await self._requests(await self._not_kept(new)) or [[]]
            for question in first:
                question.leads = bool(others)
            await self._fly(first)
            await asyncio.gather(*map(self._fly, others))
        except BaseException as error:
            for question in new:
                self._land(question, error)
            if not isinstance(error, Exception):
                raise

    def _land(self, question: GatheredQuestion, outcome: Reply | BaseException) -> None:
        """Settle a question that was sent, and all that wait for the same."""
        if question.outcome is None:
            self.flights.land(question.key, outcome)
            question.settle(outcome)

    async def _not_kept(self, new: Sequence[GatheredQuestion]) -> list[GatheredQuestion]:
        """The questions that the journal has no reply to; the others get theirs."""
        kept = await self.kept(new)
        for question in new:
            if (reply := kept.get(question.key)) is not None:
                self.ledger.lines[question.caller.dimension].reused += 1
                self._land(question, reply)
        return [question for question in new if question.key not in kept]

    async def kept(self, questions: Sequence[GatheredQuestion]) -> dict[bytes, Reply]:
        """The replies that the journal has, by their keys."""
        return await self.journal.replies([question.key for question in questions])

    async def _requests(self, new: Sequence[GatheredQuestion]) -> list[list[GatheredQuestion]]:
        """The questions as requests: those on the same material together, within the judge's limits, in their order.

        A question that is too long with its material gets its error.
        """
        by_material: dict[Prompt, list[GatheredQuestion]] = {}
        for question in new:
            by_material.setdefault(material_of(question.request), []).append(question)
        window, most = self.judge.capabilities.context_window, self.judge.capabilities.questions
        sizes: Mapping[Prompt | bytes, int] = defaultdict(int)
        if window is not None:
            sizes = await asyncio.to_thread(self._sizes, by_material)
        requests: list[list[GatheredQuestion]] = []
        for material, of_material in by_material.items():
            taken, request = 0, list[GatheredQuestion]()
            for question in of_material:
                tokens = sizes[question.key]
                if window is not None and sizes[material] + tokens > window:
                    self._refuse(question, sizes[material] + tokens, window)
                    continue
                full = window is not None and sizes[material] + taken + tokens > window
                if request and (full or len(request) == most or not material):
                    requests.append(request)
                    taken, request = 0, []
                request.append(question)
                taken += tokens
            requests += [request] if request else []
        return requests

    def _sizes(self, by_material: dict[Prompt, list[GatheredQuestion]]) -> dict[Prompt | bytes, int]:
        """Tokens of each material, and of each question by its key. Blocks."""
        sizes: dict[Prompt | bytes, int] = {m: self._counted.tokens(m) + CHAT_TOKENS for m in by_material}
        for question in (question for several in by_material.values() for question in several):
            asked = self._counted.tokens(asked_of(question.request))
            sizes[question.key] = asked + question_tokens(question.request.options)
        return sizes

    def _refuse(self, question: GatheredQuestion, tokens: int, window: int) -> None:
        detail = f"material and question have {tokens} tokens; judges.{self.name} takes {window} (`context_window`)"
        self._land(question, UnscorableError(Reason.CONTEXT_TOO_SMALL, detail))

    # --- one request -------------------------------------------------------------------------------------------

    async def _fly(self, request: Sequence[GatheredQuestion]) -> None:
        """Settle one request's questions."""
        if not request:
            return
        try:
            replies = await self.replies(request)
        except BaseException as error:
            for question in request:
                self._land(question, error)
            if not isinstance(error, Exception):
                raise
            return
        for question, reply in zip(request, replies, strict=True):
            question.paid = isinstance(reply, Reply)
            self._land(question, reply)

    async def replies(self, request: Sequence[GatheredQuestion]) -> Sequence[Reply | UnscorableError]:
        """A reply or an error for each question; a request that is refused is sent again in halves."""
        try:
            return await self.server.retries.run(lambda: self._call(request), request[0].caller.sample)
        except UnscorableError as error:
            one_to_blame = error.reason == Reason.CONTEXT_TOO_SMALL or self.server.retries.served_any
            if len(request) == 1 or error.transient or not one_to_blame:
                return [error] * len(request)
        half = len(request) // 2
        halves = await asyncio.gather(self.replies(request[:half]), self.replies(request[half:]))
        return [*halves[0], *halves[1]]

    async def _call(self, request: Sequence[GatheredQuestion]) -> Sequence[Reply]:
        """The replies of one call, kept in the journal."""
        judge, requests = self.judge, [question.request for question in request]
        assert isinstance(judge, AnswersSeveral)

        async def send(deadline_s: float) -> tuple[Sequence[Reply], Sequence[Usage]]:
            given = await judge.complete_several([requests[0].within(deadline_s), *requests[1:]])
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
            caller=request[0].caller,
            kind="questions" if len(request) > 1 else requests[0].expects.kind,
            send=send,
            commit=partial(self._commit, request),
            worst=lambda: worst_of_pack(self.judge, requests),
            deadline_s=lambda: judge.request_timeout_s,
            rated=Rated(1, worst_of_pack(self.judge, requests).prompt * self._prompt_share) if self.rates else Rated(),
            attempt=requests[0].attempt,
            dimensions=[question.caller.dimension for question in request],
            leads=request[0].leads,
        )
        return await call.run()

    async def _commit(self, request: Sequence[GatheredQuestion], replied: Replied[Sequence[Reply]]) -> None:
        """Keep all replies of a call; the seconds and the worst case are the first one's."""
        told = any(reply.usage.told for reply in replied.value)
        untold = (0, 0) if told else worst_of_pack(self.judge, [question.request for question in request])[1:]
        kept = []
        for place, (question, reply) in enumerate(zip(request, replied.value, strict=True)):
            sample, dimension = question.caller.sample, question.caller.dimension
            seconds, worst = (0.0, (0, 0)) if place else (replied.seconds, untold)
            kept.append(Kept(question.key, self.identity, question.request, reply, sample, dimension, seconds, worst))
        await self.journal.commit_replies(kept)

    async def _was_cut(self, requests: Sequence[Request], usages: Sequence[Usage]) -> bool:
        """Whether the server counted far fewer tokens than material and questions have."""
        told = sum(usage.prompt_tokens for usage in usages)
        if not told or BYTES_A_TOKEN * told >= most_tokens(_texts(requests)):
            return False  # a quick look, before tokens are counted
        tokens = await asyncio.to_thread(lambda: sum(map(self._counted.tokens, _texts(requests))))
        return tokens >= LEAST_TOKENS and told < LEAST_SHARE * tokens


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


def _follow(question: GatheredQuestion, waiter: asyncio.Future[Reply]) -> None:
    """Settle a question by what the call for an equal one brought."""
    if waiter.cancelled():
        question.settle(asyncio.CancelledError())
    else:
        question.settle(waiter.exception() or waiter.result())
