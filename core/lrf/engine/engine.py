"""The scoring engine: samples in, rewards out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from lrf.engine.budget import BudgetLedger
from lrf.engine.candidate_context import CandidateContext, Surround
from lrf.engine.checks import check_judgement, check_reward
from lrf.engine.closing import close_all
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.explaining import Work, explained
from lrf.engine.faults import (
    NOT_OF_COMPONENTS,
    FaultError,
    FaultListener,
    fault_of,
    fault_of_cancelled,
    ignore,
    note_at_work,
)
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.observers import Observers
from lrf.engine.packed_calls import PackedCalls
from lrf.engine.packing import NOTHING
from lrf.engine.paid_call import PaidCall
from lrf.engine.panel import NamedDimension
from lrf.engine.passages import around
from lrf.engine.queue import short_of_calls
from lrf.engine.rate_limits import RateLimits
from lrf.engine.rescoring import RescoringRounds
from lrf.engine.running import RunningDimensions, uncancel
from lrf.engine.sample_scope import SampleScope
from lrf.engine.server import Server
from lrf.engine.shared_scopes import SharedScopes
from lrf.engine.single_flight import SingleFlight
from lrf.engine.stop import Stop
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
from lrf.prompting.requests import Reply
from lrf.protocols import Aggregator, Detachable, Judge, Retriever
from lrf.store.journal import Journal
from lrf.text.languages import language_of
from lrf.text.redaction import redact
from lrf.types import Candidate, Judgement, Reward, Sample, Unscored

T = TypeVar("T")

FATAL = (BudgetError, RunInterruptedError, JudgeMisconfiguredError, RunError, StageError)
"""Errors that stop the run; every other one makes a candidate unscored."""


@dataclass(slots=True)
class Engine:
    """Scores samples, and makes every call on the way: limited, journaled, retried and counted.

    Parameters
    ----------
    dimensions: in the pipeline's order.
    judges, retrievers: by name, as the dimensions name them.
    embedders: the embedders behind the retrievers, closed with the engine.
    rounds: what is to be scored again.
    around: how chunks get the text around them (a plan's upper bound has its own way).
    shared: what samples share that are scored apart and have the same documents and query; None: nothing.
    on_fault: called with each unexpected error of a component, which has its traceback.

    Attributes
    ----------
    stop: stops all calls.
    moved: set whenever a call begins to wait or ends and the slots are :attr:`short`, and when the engine is stopped.
    left: for a judge whose server continues with calls after a stop, a sentence on them; by name.
    running: the dimensions at work.
    packs: whether a judge takes several questions a request.
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
    around: Surround = around
    shared: SharedScopes | None = None
    on_fault: FaultListener = ignore
    stop: Stop = field(default_factory=Stop)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    left: dict[str, str | None] = field(default_factory=dict)
    closed: bool = False
    running: RunningDimensions = field(default_factory=RunningDimensions)
    packs: bool = field(init=False)

    def __post_init__(self) -> None:
        self.packs = any(isinstance(judge, PackedCalls) for judge in self.judges.values())
        for server in self._servers:
            server.obey(self.stop)
            server.on_fault = self._faulty
        for judge in self.judges.values():
            judge.server.queue.on_move = self._moved
        self.stop.listen(self.moved.set)

    @property
    def _servers(self) -> list[Server]:
        judges, embedders = self.judges.values(), self.embedders.values()
        return [*(judge.server for judge in judges), *(embedder.server for embedder in embedders)]

    # --- how busy it is ----------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """The most calls of judges in flight."""
        return sum(judge.server.limiter.ceiling for judge in self.judges.values())

    @property
    def waiting(self) -> int:
        """Calls of judges that wait for a free slot."""
        return sum(judge.server.queue.waiting for judge in self.judges.values())

    @property
    def in_flight(self) -> int:
        """Calls of judges that have a slot."""
        return sum(judge.server.queue.in_flight for judge in self.judges.values())

    @property
    def short(self) -> bool:
        """Whether fewer calls are in flight and waiting than fill the slots and half as many again."""
        return short_of_calls(judge.server.queue for judge in self.judges.values())

    def _moved(self) -> None:
        if self.short:
            self.moved.set()

    @property
    def oldest_call(self) -> PaidCall[Any] | None:
        """The call that has been in flight for longest, of any judge."""
        oldest = (judge.server.oldest for judge in self.judges.values())
        return min((call for call in oldest if call), key=lambda call: call.began, default=None)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The judges and embedders whose calls wait before another attempt, each once."""
        return tuple(wait for server in self._servers for wait in server.retries.waits)

    @property
    def retried(self) -> Mapping[str, int]:
        """How many attempts were made again at each judge and embedder, by the names that :attr:`waits` uses."""
        return {server.title: server.retries.count for server in self._servers}

    # --- stopping ----------------------------------------------------------------------------------------------

    @property
    def fatal(self) -> LrfError | None:
        """Why the engine was stopped, or None."""
        return self.stop.reason

    def drain(self, reason: LrfError | None = None) -> None:
        """Stop: calls in flight are finished and kept, no other begins. The first reason given is the run's.

        Calls that their server keeps are left to it, except when a budget was reached: those are within it.
        """
        self.stop.set(reason)
        self.running.end(self._is_calling, lambda note: self.left.setdefault("", note))
        if reason is not None and isinstance(self.fatal, BudgetError):
            return
        for name, judge in self.judges.items():
            if name not in self.left and isinstance(judge.judge, Detachable):
                self.left[name] = judge.judge.detach()

    def _is_calling(self) -> bool:
        """Whether a call waits or is in flight."""
        return any(server.queue.in_flight or server.queue.waiting for server in self._servers)

    def rearm(self) -> None:
        """Take calls again after an error that stopped them (a server that was down), once all have ended."""
        if self.fatal is None or isinstance(self.fatal, RunInterruptedError) or self.in_flight:
            return
        self.stop.clear()
        self.left.clear()
        for server in self._servers:
            server.retries.reset()

    # --- scoring -----------------------------------------------------------------------------------------------

    async def score(self, sample: Sample, position: int = 0, *, take: int = 0) -> tuple[Reward, ...]:
        """A reward, or the reason for having none, for each candidate in order. Raises only what stops a run.

        With a ``take`` above 0 no reply to another take's equal request is used, and observers hear of calls only.
        """
        language = language_of(max((d.text for d in sample.documents), key=len, default=sample.query))
        scope = SampleScope(sample, position, language, self.retrievers, take, self._faulty)
        close: Callable[[], Awaitable[None]] = scope.aclose
        if self.shared is not None and not take:
            close = self.shared.enter(scope)
        try:
            for name in dict.fromkeys(d.retriever for d in self.dimensions if d.retriever and sample.candidates):
                scope.index(name)  # documents are embedded while statements are still being extracted
            parts = [self._candidate(scope, place, candidate) for place, candidate in enumerate(sample.candidates)]
            outcomes = await _outcomes(parts)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            rewards = tuple(outcome for outcome in outcomes if isinstance(outcome, Reward))
            if not take:
                rewards = await explained(sample, rewards, self.dimensions, partial(self._dimension, scope))
        finally:
            await close()
        if not take:
            self.observers.tell("lrf_sample_scored", sample_id=sample.id, rewards=rewards)
        return rewards

    async def _candidate(self, scope: SampleScope, place: int, candidate: Candidate) -> Reward:
        def work(named: NamedDimension) -> Work:
            return lambda ctx: named.dimension.score(scope.sample, candidate, ctx)

        parts = [self._dimension(scope, place, n, work(named)) for n, named in enumerate(self.dimensions)]
        outcomes = await _outcomes(parts)
        judgements: dict[str, Judgement | Unscored] = {}
        for named, outcome in zip(self.dimensions, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            judgements[named.name] = outcome
        ratings = {n: j.rating if isinstance(j, Judgement) else None for n, j in judgements.items()}
        reward, unscored = self._aggregate(ratings)
        unscored = unscored or next((j for j in judgements.values() if isinstance(j, Unscored)), None)
        if reward is None and unscored is None:
            unscored = Unscored("aggregator", Reason.NO_REWARD, "the aggregator made no reward of complete ratings")
        return Reward(
            sample_id=scope.sample.id,
            candidate_id=candidate.id,
            reward=reward,
            ratings=ratings,
            unscored=unscored if reward is None else None,
            judgements=judgements,
        )

    def _aggregate(self, ratings: dict[str, float | None]) -> tuple[float | None, Unscored | None]:
        """The reward of these ratings, or why the aggregator made none.

        Raises :class:`lrf.errors.StageError` for an aggregator whose own code fails: it would for every candidate.
        """
        try:
            return check_reward(self.aggregator, self.aggregator.aggregate(MappingProxyType(ratings))), None
        except UnscorableError as error:
            return None, _unscored("aggregator", error)
        except LrfError:
            raise
        except (Exception, SystemExit) as error:
            fault = fault_of("aggregator", self.aggregator, error, Reason.NO_REWARD)
            self._faulty(fault)
            if fault.transient:
                return None, _unscored("aggregator", fault)
            raise StageError(f"{fault.detail}. All replies are kept: mend it and run the same command again") from None

    def _faulty(self, fault: FaultError) -> None:
        self.on_fault(fault)

    async def _dimension(self, scope: SampleScope, place: int, n: int, work: Work) -> Judgement | Unscored:
        """The outcome of a dimension's work on a candidate; both are given by their places."""
        candidate, named = scope.sample.candidates[place], self.dimensions[n]
        context = CandidateContext(scope, named, candidate, self.judges, self.rounds, self.around, self._faulty)
        try:
            self.stop.check()
            worker = scope.gathering.worker((place, n, "")) if self.packs else NOTHING
            with self.running.entered(named, scope.sample.id, candidate.id), worker:
                judgement = await work(context)
            return check_judgement(context.complete(judgement), scope.sample)
        except asyncio.CancelledError as e:
            title = f"dimensions.{named.name}"
            if not self.running.was_cancelled() and scope.is_given_up:
                note_at_work(e, title, named.dimension, Reason.DIMENSION_ERROR)
                raise
            # The sample's scoring wasn't cancelled, but the dimension was, or something that it waited for.
            uncancel()
            stopped = self.closed or self.stop.stopping
            error: BaseException = RunInterruptedError("the engine was stopped")
            if not stopped:
                error = fault_of_cancelled(e, title, named.dimension, Reason.DIMENSION_ERROR)
                self._faulty(error)
        except NOT_OF_COMPONENTS:
            raise
        except BaseException as e:
            error = _cause(e)
        if isinstance(error, FATAL):
            self.drain(error)
            raise self.fatal or error
        if not isinstance(error, UnscorableError | JudgeError):
            error = fault_of(f"dimensions.{named.name}", named.dimension, error, Reason.DIMENSION_ERROR)
            self._faulty(error)
        error = error.with_traceback(None)  # else this frame and all below it are garbage that only a collector finds
        unscored = _unscored(named.name, error)
        if not scope.take:
            self.observers.tell(
                "lrf_component_failed",
                component=named.name,
                unscored=unscored,
                sample_id=scope.sample.id,
                candidate_id=candidate.id,
            )
        return unscored

    def title_of(self, component: object) -> str | None:
        """What the pipeline calls a component: "dimensions.helpfulness", "judges.main"; None for another object."""
        kinds: tuple[tuple[str, Mapping[str, object]], ...] = (
            ("dimensions", {named.name: named.dimension for named in self.dimensions}),
            ("judges", {name: judge.judge for name, judge in self.judges.items()}),
            ("retrievers", self.retrievers),
            ("embedders", {name: embedder.embedder for name, embedder in self.embedders.items()}),
        )
        titles = (f"{kind}.{name}" for kind, parts in kinds for name, part in parts.items() if part is component)
        return next(titles, "aggregator" if component is self.aggregator else None)

    async def aclose(self) -> None:
        """Close judges, retrievers and embedders. Calls in flight are given up, and what goes wrong is a fault."""
        self.closed = True
        if self.shared is not None:
            await self.shared.aclose()
        judges = [(f"judges.{name}", judge.judge, judge.aclose) for name, judge in self.judges.items()]
        retrievers = [(f"retrievers.{name}", part, part.aclose) for name, part in self.retrievers.items()]
        embedders = [(f"embedders.{name}", part.embedder, part.aclose) for name, part in self.embedders.items()]
        await close_all([*judges, *retrievers, *embedders], self._faulty)


async def _outcomes(parts: Sequence[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """The results of all, run concurrently, with the error in place of a result. A single one runs without a task."""
    if len(parts) != 1:
        return await asyncio.gather(*parts, return_exceptions=True)
    try:
        return [await parts[0]]
    except Exception as error:
        return [error]


def _unscored(name: str, error: UnscorableError | JudgeError) -> Unscored:
    if isinstance(error, UnscorableError):
        return Unscored(name, error.reason, redact(error.detail), error.transient or error.refused)
    return Unscored(name, error.reason, redact(str(error)), transient=True)


def _cause(error: BaseException) -> BaseException:
    """Of a group of errors the one that counts: one that stops the run, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_cause(e) for e in error.exceptions]
    return next((e for e in leaves if isinstance(e, FATAL)), leaves[0])


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

    listen = observers.tell_call if observers.hear("lrf_call_finished") else None
    flights = SingleFlight[Reply]()
    return {
        name: calls_of(judge)(name, judge, journal, ledger, seed, listen, prices.get(name), rates.get(name), flights)
        for name, judge in judges.items()
    }


def calls_of(judge: Judge) -> type[JudgeCalls]:
    """The class of the engine's side of a judge: of one question a request, or of several."""
    return PackedCalls if judge.capabilities.questions > 1 else JudgeCalls
