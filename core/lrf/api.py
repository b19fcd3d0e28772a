"""lrf as a library: a reward model made of objects or of a pipeline, and a whole run in one call."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from lrf.engine import event_loop as interpreter
from lrf.errors import ConfigError, RunError, RunInterruptedError
from lrf.types import Candidate, Document, Message, Reward, Sample

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lrf.config import Pipeline
    from lrf.engine.engine import Engine
    from lrf.protocols import Aggregator, Dimension, Embedder, Judge, Retriever
    from lrf.stages.context import StageContext
    from lrf.stages.summary import RunSummary
    from lrf.types import JSON

__all__ = [
    "RewardModel",
    "run",
]

T = TypeVar("T")

_NOT_SCORING = ("data", "sample", "pairs", "train", "launcher", "calibration", "python")
"""The keys of a pipeline that have no part in scoring."""

ContextInput = str | Sequence[Document] | Sequence[Message]
"""A sample's context for the library: one text, documents, or the turns of a dialogue or of an agent's trajectory."""


class RewardModel:
    """A reward model for long-context answers: gives the reward of an answer to a query on a document.

    Parameters
    ----------
    judge: a judge object, or a block as in a pipeline file (``{"type": "openai", "model": …}``).
    dimensions: dimension objects, their names, or blocks. A name or block is looked up among the plugins.
    retriever: for dimensions that need evidence: an object or a block.
    embedder: for a retriever block that needs one: an object or a block.
    aggregator: an object, a name or a block; the plain mean by default.
    journal: a file to keep every reply in, so that nothing is paid for twice; in memory by default.

    Attributes
    ----------
    prompt_template: the pipeline's ``policy.prompt_template``.
    run_dir: the run's directory, of a model with ``runs``; else None.

    Use it as a context manager (``with`` or ``async with``), or call :meth:`close`.
    Raises :class:`lrf.ConfigError` for parts that don't fit together.

    Every method may be used from any thread and any event loop. The work is done on an event loop in another thread, so
    the synchronous methods also work where an event loop is already running (Jupyter, a trainer). That thread is not in
    a process that is forked later: there every scoring method raises :class:`lrf.RunError`, so make the model after the
    fork.
    """

    prompt_template = "<<context>>\n\n<<question>>"
    run_dir: Path | None = None
    _closing: ExitStack | None = None

    def __init__(
        self,
        judge: Judge | Mapping[str, JSON] | str | None = None,
        dimensions: Sequence[Dimension | Mapping[str, JSON] | str] = (
            "helpfulness",
            "logicality",
            "faithfulness",
            "completeness",
        ),
        *,
        retriever: Retriever | Mapping[str, JSON] | str | None = None,
        embedder: Embedder | Mapping[str, JSON] | str | None = None,
        aggregator: Aggregator | Mapping[str, JSON] | str = "mean",
        journal: str | os.PathLike[str] | None = None,
    ) -> None:
        from lrf.assemble import engine_of_parts

        path = Path(journal) if journal is not None else None
        self._start(lambda: engine_of_parts(judge, dimensions, retriever, embedder, aggregator, path))

    @classmethod
    def from_pipeline(
        cls,
        pipeline: str | os.PathLike[str] | Mapping[str, JSON],
        *,
        runs: str | os.PathLike[str] | None = None,
        share_s: float = 0.0,
    ) -> RewardModel:
        """The scoring part of a pipeline file (or of the same as a mapping) as a reward model.

        Parameters
        ----------
        pipeline: the file. Its ``data``, ``sample``, ``pairs`` and ``train`` aren't read.
        runs: keep replies in the journal of the run, ``runs / name``, so that none is paid for twice; no other process
            can use the run meanwhile. None: in memory.
        share_s: seconds for which notes, chunks and indexes of a document and a question are kept, so that answers
            which come one by one share them as the candidates of one sample do.

        Raises :class:`lrf.ConfigError` with every mistake in it, :class:`lrf.RunError` for a run that is in use.
        """
        from lrf.assemble import engine_in_memory
        from lrf.engine.shared_scopes import SharedScopes
        from lrf.stages.score.serving import engine_in_run

        checked = load(pipeline, without=_NOT_SCORING)
        model = cls.__new__(cls)
        closing = ExitStack()

        def make() -> Engine:
            if runs is None:
                engine = engine_in_memory(checked)
            else:
                engine, run = engine_in_run(checked, Path(runs), closing)
                model.run_dir = run.path
            engine.shared = SharedScopes(share_s) if share_s else None
            return engine

        try:
            model._start(make)
        except BaseException:
            closing.close()
            raise
        model._closing, model.prompt_template = closing, checked.policy.prompt_template
        return model

    def _start(self, make: Callable[[], Engine]) -> None:
        self._loop = interpreter.new()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lrf-reward-model", daemon=True)
        self._thread.start()
        self._process = os.getpid()
        self._position = 0
        self._closed = False
        self._lock = threading.Lock()  # so that nothing is submitted once the end has begun

        async def made() -> Engine:
            return make()

        try:
            self._engine = self._submit(made()).result()
        except BaseException:
            self._stop_loop()
            raise

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if os.getpid() != self._process:  # looked at first: the lock may have been taken when the fork came
            work.close()
            raise RunError(
                f"this reward model was made by process {self._process} and can't be used in process {os.getpid()}, "
                "which was forked from it: make the model in the new process (after the fork), or use one process"
            )
        with self._lock:
            if self._closed:
                work.close()
                raise ConfigError("this reward model is closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    # --- scoring -----------------------------------------------------------------------------------------------

    async def score(self, *, context: ContextInput, query: str, answer: str) -> Reward:
        """The reward of one answer. Its ``reward`` is None if it can't be scored; ``unscored`` says why.

        Raises what stops all scoring: :class:`lrf.errors.JudgeMisconfiguredError`, :class:`lrf.errors.StageError`.
        """
        return (await self.score_sample(_sample(context, query, [answer])))[0]

    def score_sync(self, *, context: ContextInput, query: str, answer: str) -> Reward:
        """:meth:`score` for synchronous code, also inside a running event loop."""
        return self.score_sample_sync(_sample(context, query, [answer]))[0]

    async def score_sample(self, sample: Sample) -> tuple[Reward, ...]:
        """A reward for each candidate of a sample, in order.

        Raises :class:`lrf.ConfigError` for documents of the same id, and the errors of :meth:`score`.
        """
        if asyncio.get_running_loop() is self._loop and not self._closed:
            return await self._score(sample)
        return await asyncio.wrap_future(self._submit(self._score(sample)))

    def score_sample_sync(self, sample: Sample) -> tuple[Reward, ...]:
        """:meth:`score_sample` for synchronous code, also inside a running event loop."""
        return self._submit(self._score(sample)).result()

    async def score_many(
        self, samples: Iterable[Sample] | AsyncIterable[Sample], *, open_samples: int = 16
    ) -> AsyncIterator[tuple[Reward, ...]]:
        """The rewards of each sample, in the samples' order, as they become ready.

        At most ``open_samples`` samples are scored at once, and no more of the input is read ahead.
        """
        window: list[asyncio.Task[tuple[Reward, ...]]] = []
        try:
            async for sample in _each(samples):
                window.append(asyncio.ensure_future(self.score_sample(sample)))
                if len(window) >= open_samples:
                    yield await window.pop(0)
            while window:
                yield await window.pop(0)
        finally:
            for task in window:
                task.cancel()

    async def _score(self, sample: Sample) -> tuple[Reward, ...]:
        if len({document.id for document in sample.documents}) < len(sample.documents):
            raise ConfigError(f"sample {sample.id!r}: two documents have the same id; evidence names documents by it")
        self._engine.rearm()
        self._position += 1
        return await self._engine.score(sample, self._position)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the model's own event loop. Blocks, for code that serves the model.

        There the scoring methods cost less, since nothing goes from one thread to another. The interpreter is set as
        for a run meanwhile. Raises what ``main`` raises, and :class:`lrf.ConfigError` for a model that is closed.
        """
        with interpreter.tuned():
            return self._submit(main).result()

    @property
    def costs(self) -> Mapping[str, JSON]:
        """Calls, tokens and reused replies so far, in total and by dimension."""
        return self._engine.ledger.as_json()

    @property
    def load(self) -> Mapping[str, int]:
        """Calls to judges that are ``in_flight`` and ``waiting`` for a slot, and the ``slots`` that there are."""
        return {"in_flight": self._engine.in_flight, "waiting": self._engine.waiting, "slots": self._engine.slots}

    @staticmethod
    def as_json(reward: Reward) -> Mapping[str, JSON]:
        """A reward with what it rests on as JSON values: its rows of ``rewards.jsonl`` and ``judgements.jsonl``."""
        from lrf.stages.score.rows import judgement_row, reward_row

        return {**reward_row(reward), **judgement_row(reward)}

    # --- ending ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close judges and journal. Replies are kept in the journal's file, if there is one.

        Unfinished calls of the scoring methods raise :class:`lrf.errors.RunInterruptedError`. In a process that was
        forked from the model's own this does nothing.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            closed = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        closed.result()
        self._engine.journal.close()
        if self.run_dir is not None:
            ended = {"status": "closed", **self.costs}
            self._engine.observers.tell("lrf_run_finished", run_dir=str(self.run_dir), summary=ended)
        self._engine.observers.close()
        self._stop_loop()
        if self._closing is not None:
            self._closing.close()

    async def _end(self) -> None:
        await self._engine.aclose()
        if scoring := asyncio.all_tasks() - {asyncio.current_task()}:
            _, late = await asyncio.wait(scoring, timeout=1)  # waiting calls have raised by now
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _stop_loop(self) -> None:
        interpreter.end(self._loop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> RewardModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> RewardModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def run(
    pipeline: str | os.PathLike[str] | Mapping[str, JSON],
    *,
    runs: str | os.PathLike[str] = "runs",
    first: str | None = None,
    last: str | None = None,
    report: Callable[[Mapping[str, JSON]], None] | None = None,
    replace: bool = False,
) -> RunSummary:
    """Run a pipeline as ``lrf run`` does; the files are in ``runs / name``.

    ``first`` and ``last`` name the stages to begin and end with ("data", "sample", "score", "pairs", "train").
    ``report`` is called with progress. With ``replace`` a policy that was made with other data or settings may be
    removed. How it ended is in the summary (``status``, ``exit_code``, ``message``);
    raised are only errors of the pipeline file (:class:`lrf.ConfigError`) and of a run directory that can't be used.
    Works inside a running event loop too. A KeyboardInterrupt lets the run drain: the summary's status is then
    "interrupted", and the same call goes on from there.
    """
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.runner import run_pipeline

    drains: list[Callable[[], object]] = []

    def started(context: StageContext) -> None:
        loop = asyncio.get_running_loop()
        stop = RunInterruptedError("stopped by KeyboardInterrupt")
        drains.append(lambda: loop.call_soon_threadsafe(context.drain, stop))

    work = run_pipeline(
        load(pipeline),
        load_catalog(),
        Path(runs),
        first=first,
        last=last,
        report=report or (lambda _: None),
        started=started,
        replace=replace,
    )
    result: Future[RunSummary] = Future()

    def target() -> None:
        try:
            result.set_result(interpreter.run(work))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=target, name="lrf-run")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for drain in drains:
            drain()
        thread.join()
    return result.result()


def load(pipeline: str | os.PathLike[str] | Mapping[str, JSON], *, without: Sequence[str] = ()) -> Pipeline:
    """A checked pipeline from a file's path or from a mapping, but for the keys in ``without``.

    Raises :class:`lrf.ConfigError`.
    """
    from lrf.config import load_pipeline, parse_pipeline
    from lrf.plugin.catalog import load_catalog

    if isinstance(pipeline, Mapping):
        return parse_pipeline(pipeline, load_catalog(), folder=Path.cwd(), without=without)
    return load_pipeline(Path(pipeline), load_catalog(), without=without)


def _sample(context: ContextInput, query: str, answers: Sequence[str]) -> Sample:
    documents = (Document("0", context),) if isinstance(context, str) else _documents(context)
    if not any(d.text.strip() for d in documents):
        raise ConfigError("context: expected a text, or documents or turns that are not empty")
    return Sample("sample", query, documents, tuple(Candidate(str(i), a) for i, a in enumerate(answers)))


def _documents(context: Sequence[Document] | Sequence[Message]) -> tuple[Document, ...]:
    """The documents; turns as documents."""
    from lrf.rows.data import turn_documents

    turns = [part for part in context if isinstance(part, Message)]
    return turn_documents(turns) if turns else tuple(part for part in context if isinstance(part, Document))


async def _each(samples: Iterable[Sample] | AsyncIterable[Sample]) -> AsyncIterator[Sample]:
    if isinstance(samples, AsyncIterable):
        async for sample in samples:
            yield sample
    else:
        for sample in samples:
            yield sample
