"""Rewards of answers while a trainer runs: the run's own engine, in the first process of the training."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lrf.engine import event_loop
from lrf.engine.engine import Engine
from lrf.errors import JudgeSilentError, RunInterruptedError
from lrf.protocols import Answers
from lrf.stages.run_dir import RunDir
from lrf.stages.score.journaled import journaled_engine
from lrf.stages.train.prompts import PromptSamples
from lrf.store.log import run_log
from lrf.types import JSON, Candidate, Reward

if TYPE_CHECKING:
    from lrf.config import Pipeline


class RunRewards:
    """A :class:`lrf.protocols.Rewards` with the journal and the budget of a run. Use it as a context manager.

    Its engine works on an event loop in a thread, for as long as answers are being scored.
    """

    def __init__(self, pipeline: Pipeline, run: RunDir) -> None:
        self.dimensions = tuple(block.name for block in pipeline.dimensions)
        with ExitStack() as opened:
            self._log = log = opened.enter_context(run_log(run.log)).bind(run=pipeline.name)
            self._samples = opened.enter_context(closing(PromptSamples(run.prompt_samples)))
            self._engine: Engine = journaled_engine(pipeline, run, log)
            self._opened = opened.pop_all()
        self._answers = self._unscored = 0
        self._loop = event_loop.new()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lrf-rewards", daemon=True)
        self._thread.start()

    def score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        engine = self._engine
        if isinstance(engine.fatal, JudgeSilentError):
            engine.rearm()
        future = asyncio.run_coroutine_threadsafe(self._score(answers), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            reason = RunInterruptedError("stopped by KeyboardInterrupt")
            self._loop.call_soon_threadsafe(engine.drain, reason)
            future.exception()  # calls in flight are finished and kept
            raise reason from None

    async def _score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        tasks = [asyncio.ensure_future(self._score_one(one)) for one in answers]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        rewards = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        self._answers += sum(map(len, rewards))
        for reward in (reward for of_prompt in rewards for reward in of_prompt if reward.reward is None):
            self._unscored += 1
            why = reward.unscored
            of = {"sample": reward.sample_id, "candidate": reward.candidate_id}
            self._log.info("unscored", **of, **({"dimension": why.dimension, "reason": why.reason} if why else {}))
        return rewards

    async def _score_one(self, answers: Answers) -> tuple[Reward, ...]:
        candidates = tuple(Candidate(f"{answers.name}-{n}", text) for n, text in enumerate(answers.texts))
        sample = await asyncio.to_thread(self._samples.__getitem__, answers.place)
        return await self._engine.score(replace(sample, candidates=candidates), answers.place)

    def costs(self) -> Mapping[str, JSON]:
        ledger = self._engine.ledger
        return {
            "answers": self._answers,
            "unscored_answers": self._unscored,
            "usage": asdict(ledger.total()),
            "by_dimension": {name: asdict(line) for name, line in sorted(ledger.lines.items())},
            "embedding_calls": ledger.embedding_calls,
            "embedded_texts": ledger.embedded_texts,
        }

    def close(self) -> None:
        """Close the engine and the journal, in which every reply is kept."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        event_loop.end(self._loop)
        self._thread.join()
        self._loop.close()
        self._engine.journal.close()
        self._engine.observers.close()
        self._opened.close()

    async def _end(self) -> None:
        await self._engine.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
