"""The scoring engine: samples in, rewards out."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.judge_calls import Caller, InFlight, JudgeCalls
from lrf.engine.observers import Observers
from lrf.engine.panel import PanelSettings, ask_panel, spread
from lrf.engine.passages import around, check_pieces
from lrf.engine.rate_limits import RateLimits
from lrf.engine.rescoring import RescoringRounds
from lrf.engine.retries import Retries
from lrf.engine.single_flight import SingleFlight
from lrf.engine.turns import Turns
from lrf.engine.waits import Wait
from lrf.errors import (
    BudgetError,
    JudgeError,
    JudgeMisconfiguredError,
    LrfError,
    Reason,
    RunError,
    RunInterruptedError,
    StageError,
    UnscorableError,
)
from lrf.prices import Price
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Answer, Expectation, Reply
from lrf.prompting.templates import Prompt
from lrf.protocols import Aggregator, Detachable, Dimension, Index, Judge, Retriever
from lrf.store.files import dump
from lrf.store.journal import Journal
from lrf.text.chunking import chunk_document
from lrf.text.languages import language_of
from lrf.text.redaction import redact
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import Candidate, Chunk, Document, Judgement, Reward, Sample, Unscored, Vote

T = TypeVar("T")

FATAL = (BudgetError, RunInterruptedError, JudgeMisconfiguredError, RunError, StageError)
"""Errors that stop the run; every other one makes a candidate unscored."""


@dataclass(frozen=True, slots=True)
class NamedDimension:
    """A dimension under its name in the pipeline, with the names of the judge and the retriever it asks, and how."""

    name: str
    dimension: Dimension
    judge: str | None = None
    retriever: str | None = None
    asking: PanelSettings = field(default_factory=PanelSettings)

    @property
    def judges(self) -> tuple[str, ...]:
        """The judge and the others of its panel; none for a dimension that asks nobody."""
        return () if self.judge is None else (self.judge, *self.asking.others)


@dataclass(slots=True)
class _Scope:
    """What all candidates of one sample share, made at most once each."""

    sample: Sample
    position: int
    language: str
    take: int = 0
    made: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        task = self.made.get(key)
        if task is None:
            task = self.made[key] = asyncio.ensure_future(_awaited(make))
        result: T = await asyncio.shield(task)
        return result


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


@dataclass(slots=True)
class Engine:
    """Scores samples with everything that calls, limits, journals and counts on the way.

    Parameters
    ----------
    dimensions: in the pipeline's order.
    judges, retrievers: by name, as the dimensions name them.
    embedders: the embedders behind the retrievers, closed with the engine.
    rounds: what was asked to be scored again.
    moved: set whenever a call ends or the engine stops; who feeds it waits on this.
    around: how chunks get what stands around them (a plan's bound has its own way).
    left: what judges left with their servers when the run was stopped, by name, in words.
    """

    dimensions: Sequence[NamedDimension]
    judges: Mapping[str, JudgeCalls]
    retrievers: Mapping[str, Retriever]
    embedders: Mapping[str, EmbedderCalls]
    aggregator: Aggregator
    journal: Journal
    ledger: BudgetLedger
    observers: Observers
    rounds: RescoringRounds = field(default_factory=RescoringRounds)
    fatal: LrfError | None = None
    closed: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    around: Callable[[Sequence[Document], Sequence[Chunk]], list[Chunk]] = around
    left: dict[str, str | None] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)

    def __post_init__(self) -> None:
        for judge in self.judges.values():
            judge.limiter.on_release = self.moved.set

    @property
    def waiting(self) -> int:
        """Calls that wait for a free slot."""
        return sum(j.limiter.waiting for j in self.judges.values())

    @property
    def in_flight(self) -> int:
        return sum(j.limiter.in_flight for j in self.judges.values())

    @property
    def oldest_call(self) -> InFlight | None:
        """The call that has been in flight for longest, of any judge."""
        found = (j.oldest for j in self.judges.values())
        return min((call for call in found if call), key=lambda call: call.began, default=None)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The judges and embedders whose calls wait before another try, each once."""
        return tuple(wait for retries in self._retries for wait in retries.waits)

    @property
    def retried(self) -> Mapping[str, int]:
        """How many tries each judge and embedder was asked for again, by the names that :attr:`waits` uses."""
        return {retries.name: retries.count for retries in self._retries}

    @property
    def _retries(self) -> list[Retries]:
        judges, embedders = self.judges.values(), self.embedders.values()
        return [*(judge.retries for judge in judges), *(embedder.retries for embedder in embedders)]

    @property
    def slots(self) -> int:
        return sum(j.limiter.ceiling for j in self.judges.values())

    def drain(self, reason: LrfError | None = None) -> None:
        """Stop: calls in flight are finished and kept, no other begins. The first reason given is the run's.

        Calls that their server keeps are left to it, except when a budget was reached: those are within it.
        """
        self.fatal = self.fatal or reason or RunInterruptedError("stopped")
        self.moved.set()
        leaving = reason is None or not isinstance(self.fatal, BudgetError)
        for name, judge in self.judges.items():
            judge.limiter.drain()
            if leaving and name not in self.left and isinstance(judge.judge, Detachable):
                self.left[name] = judge.judge.detach()
        for embedder in self.embedders.values():
            embedder.limiter.drain()

    def rearm(self) -> None:
        """Take calls again after an error that stopped them (a server that was down), once all have ended."""
        if self.fatal is None or isinstance(self.fatal, RunInterruptedError) or self.in_flight:
            return
        self.fatal = None
        self.left.clear()
        for judge in self.judges.values():
            judge.limiter.reopen()
            judge.retries.reset()
        for embedder in self.embedders.values():
            embedder.limiter.reopen()
            embedder.retries.reset()

    async def score(self, sample: Sample, position: int = 0, *, take: int = 0) -> tuple[Reward, ...]:
        """A reward, or the reason for having none, for each candidate in order. Raises only what stops a run.

        With a ``take`` above 0 no reply to another take's equal request is used, and observers hear of calls only.
        """
        language = language_of(max((d.text for d in sample.documents), key=len, default=sample.query))
        scope = _Scope(sample, position, language, take)
        tasks: list[asyncio.Task[Reward]] = []
        try:
            for name in dict.fromkeys(d.retriever for d in self.dimensions if d.retriever and sample.candidates):
                # Documents are embedded while statements are still being extracted.
                self._index(scope, name).add_done_callback(_seen)
            tasks += [asyncio.create_task(self._candidate(scope, candidate)) for candidate in sample.candidates]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            await self._close(scope)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        rewards = tuple(o for o in outcomes if isinstance(o, Reward))
        if not take:
            self.observers.tell("lrf_sample_scored", sample_id=sample.id, rewards=rewards)
        return rewards

    async def _candidate(self, scope: _Scope, candidate: Candidate) -> Reward:
        found = await asyncio.gather(
            *(self._dimension(scope, candidate, d) for d in self.dimensions), return_exceptions=True
        )
        judgements: dict[str, Judgement | Unscored] = {}
        for named, outcome in zip(self.dimensions, found, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            judgements[named.name] = outcome
        ratings = {n: j.rating if isinstance(j, Judgement) else None for n, j in judgements.items()}
        reward = self.aggregator.aggregate(ratings)
        unscored = next((j for j in judgements.values() if isinstance(j, Unscored)), None)
        if reward is not None:
            reward = float(reward)  # of numpy, perhaps
            if not math.isfinite(reward):
                reward, unscored = None, Unscored("aggregator", Reason.NO_REWARD, f"the aggregator gave {reward}")
        elif unscored is None:
            unscored = Unscored("aggregator", Reason.NO_REWARD, "the aggregator made no reward of complete ratings")
        return Reward(
            sample_id=scope.sample.id,
            candidate_id=candidate.id,
            reward=reward,
            ratings=ratings,
            unscored=unscored if reward is None else None,
            judgements=judgements,
        )

    async def _dimension(self, scope: _Scope, candidate: Candidate, named: NamedDimension) -> Judgement | Unscored:
        context = CandidateContext(self, scope, named, candidate)
        try:
            return _checked(context.complete(await named.dimension.score(scope.sample, candidate, context)))
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this scoring was cancelled, but something that the dimension waited for.
            error: BaseException = RunInterruptedError("the engine was closed") if self.closed else e
        except Exception as e:
            error = _cause(e)
        if isinstance(error, FATAL):
            self.drain(error)
            raise self.fatal or error
        error = error.with_traceback(None)  # else this frame and all below it are garbage that only a collector finds
        if isinstance(error, UnscorableError):
            unscored = Unscored(named.name, error.reason, redact(error.detail), error.transient)
        elif isinstance(error, JudgeError):
            unscored = Unscored(named.name, error.reason, redact(str(error)), transient=True)
        else:
            said = traceback.format_exception_only(error)[-1].strip()
            unscored = Unscored(named.name, Reason.DIMENSION_ERROR, redact(said))
        if not scope.take:
            self.observers.tell(
                "lrf_component_failed",
                component=named.name,
                unscored=unscored,
                sample_id=scope.sample.id,
                candidate_id=candidate.id,
            )
        return unscored

    def _index(self, scope: _Scope, retriever: str) -> asyncio.Task[Index]:
        key = f"index\0{retriever}"
        if key not in scope.made:
            scope.made[key] = asyncio.ensure_future(self.retrievers[retriever].index(scope.sample.documents))
        return scope.made[key]

    async def _close(self, scope: _Scope) -> None:
        for task in scope.made.values():
            task.cancel()
        made: list[Any] = await asyncio.gather(*scope.made.values(), return_exceptions=True)
        indexes = (m for key, m in zip(scope.made, made, strict=True) if key.startswith("index\0"))
        await _close_all(index.aclose for index in indexes if not isinstance(index, BaseException))

    async def aclose(self) -> None:
        """Close judges, retrievers and embedders. Calls in flight are given up."""
        self.closed = True
        parts: tuple[Any, ...] = (*self.judges.values(), *self.retrievers.values(), *self.embedders.values())
        await _close_all(part.aclose for part in parts)


async def _close_all(closing: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Close everything in turn; the first error is raised when all have been tried."""
    errors = []
    for close in closing:
        try:
            await close()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _checked(judgement: Judgement) -> Judgement:
    """The judgement, if its rating is one and all of it can be stored; else the error that says what is wrong."""
    if not 0 <= judgement.rating <= 10:  # NaN included
        raise UnscorableError(Reason.RATING_OUT_OF_RANGE, f"the dimension gave {judgement.rating!r}, not 0 to 10")
    statements = [s for s in (*judgement.statements, *(s.first for s in judgement.statements)) if s is not None]
    spans = [s for statement in statements for s in statement.evidence] + [n.span for n in judgement.notes]
    quotations = [q for statement in statements for q in statement.quotations]
    spans += [q.span for q in quotations if q.span is not None]
    votes = [*judgement.votes, *(o for statement in statements for o in statement.votes)]
    dump(
        [
            (judgement.analysis, judgement.reply_mode, dict(judgement.extra), [n.text for n in judgement.notes]),
            [(s.text, s.verdict, s.support, s.analysis, dict(s.probabilities or {})) for s in statements],
            [(q.text, q.score) for q in quotations],
            [(s.document, s.start, s.end) for s in spans],
            [(o.judge, o.repeat, o.value, o.reply_mode, dict(o.probabilities or {})) for o in votes],
            (judgement.spread, dict(judgement.seen)),
        ]
    )
    return judgement if type(judgement.rating) is float else replace(judgement, rating=float(judgement.rating))


def _cause(error: BaseException) -> BaseException:
    """The error that counts among those of a group: one that stops the run, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_cause(e) for e in error.exceptions]
    return next((e for e in leaves if isinstance(e, FATAL)), leaves[0])


@dataclass(frozen=True, slots=True)
class CandidateContext:
    """The engine's side of :class:`lrf.protocols.Context`."""

    engine: Engine
    scope: _Scope
    named: NamedDimension
    candidate: Candidate
    said: list[tuple[Vote, ...]] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)

    def complete(self, judgement: Judgement) -> Judgement:
        """The judgement with what each judge and draw said, and the share of the answer that the judges saw."""
        said = [votes for votes in self.said if votes]
        if said and not judgement.votes:
            of_one = [o.value for o in said[0]] if len(said) == 1 else []
            votes = tuple(o for one in said for o in one)
            judgement = replace(judgement, votes=votes, spread=judgement.spread or spread(of_one))
        if self.shown:
            judgement = replace(judgement, seen={"answer": max(self.shown), **judgement.seen})
        return judgement

    @property
    def language(self) -> str:
        return self.scope.language

    @property
    def context_window(self) -> int | None:
        asked = (self.engine.judges[name].judge.capabilities for name in self.named.judges)
        windows = [
            can.context_window - can.reasoning_tokens
            for can in asked
            if can.context_window is not None and can.kinds is None
        ]
        return min(windows, default=None)

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        if self.named.judge is None:
            raise UnscorableError(
                Reason.NO_JUDGE, f"the dimension {self.named.name} asks a judge, but its plugin names no need"
            )
        rounds, sample = self.engine.rounds, self.scope.sample.id
        caller = Caller(
            sample,
            self.named.name,
            (self.scope.position, 0),
            round=rounds.of(self.named.name),
            again=0 if self.scope.take else rounds.again(sample, self.candidate.id),
            take=self.scope.take,
        )
        await self.engine.turns.wait()
        judges = [self.engine.judges[name] for name in self.named.judges]
        place = len(self.said)
        self.said.append(())
        answer = await ask_panel(judges, self.named.asking, prompt, expects, max_tokens, caller)
        if isinstance(expects, Rating):
            self.said[place] = answer.votes
        self.shown.extend(_shares(self.candidate.text, prompt))
        return answer

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        retriever = self.named.retriever
        if retriever is None:
            raise UnscorableError(Reason.NO_RETRIEVER, f"the dimension {self.named.name} needs a retriever")
        index = await asyncio.shield(self.engine._index(self.scope, retriever))
        found = await index.search(queries, top_k)
        check_pieces(self.scope.sample.documents, (chunk for chunks in found for chunk in chunks))
        return found

    def around(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        return self.engine.around(self.scope.sample.documents, chunks)

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        documents = self.scope.sample.documents

        def cut() -> tuple[Chunk, ...]:
            return tuple(chunk for d in documents for chunk in chunk_document(d, tokens, tokenizer=tokenizer))

        return await self.scope.once(f"chunks\0{tokens}\0{tokenizer}", lambda: asyncio.to_thread(cut))

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        return await self.scope.once(f"{self.named.name}\0{key}", make)


def _shares(answer: str, prompt: Prompt) -> list[float]:
    """The shares, 0 to 1, of the answer that segments of the prompt hold; segments that hold none of it count not."""
    whole = answer.strip()
    texts = [text for s in prompt if not s.trusted and (text := s.original.strip())]
    if whole in texts:
        return [1.0]
    return [1.0 if whole in t else len(t) / len(whole) for t in texts if whole and (whole in t or t in whole)]


def judge_calls(
    judges: Mapping[str, Judge],
    journal: Journal,
    ledger: BudgetLedger,
    observers: Observers,
    seed: int,
    prices: Mapping[str, Price] = MappingProxyType({}),
    rates: Mapping[str, RateLimits | None] = MappingProxyType({}),
) -> dict[str, JudgeCalls]:
    """The engine's side of each judge. ``prices`` and ``rates`` by name, of those that have one."""

    def listen(judge: str, kind: str, sample: str, attempt: int, seconds: float, error: str | None) -> None:
        observers.tell(
            "lrf_call_finished",
            judge=judge,
            kind=kind,
            sample_id=sample,
            attempt=attempt,
            seconds=seconds,
            error=error,
        )

    flights = SingleFlight[Reply]()
    return {
        name: JudgeCalls(name, judge, journal, ledger, seed, listen, prices.get(name), rates.get(name), flights)
        for name, judge in judges.items()
    }
