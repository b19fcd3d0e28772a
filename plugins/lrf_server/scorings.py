"""The answers that are being scored or were scored lately, by an id that follows from what is scored."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import lrf
from lrf.errors import LrfError, StageError
from lrf.rows.document_store import document_id
from lrf.types import Candidate, Reward, Sample

KEPT = 2_000
"""Rewards that are kept in memory with their grounds; the journal keeps all replies."""


class BusyError(Exception):
    """So many answers are being scored that no other is taken; ``retry_after_s`` says when to come again."""

    def __init__(self, open_now: int, retry_after_s: int) -> None:
        super().__init__(f"{open_now} answers are being scored, no other is taken now; retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Scored:
    """The outcome of an answer so far.

    Attributes
    ----------
    id: a hash of documents, question and answer.
    reward: the reward, which may be unscored; None while it is pending, or after an error.
    error: what stopped scoring altogether (a judge's key, a budget), or None.
    """

    id: str
    reward: Reward | None = None
    error: LrfError | None = None

    @property
    def pending(self) -> bool:
        return self.reward is None and self.error is None

    @property
    def final(self) -> bool:
        """Whether asking again would bring the same: a failure that may pass is tried again."""
        return self.reward is not None and not (self.reward.unscored and self.reward.unscored.transient)

    @property
    def value(self) -> float | None:
        """The reward's number; None for an answer that is unscored, pending or stopped by an error."""
        return self.reward.reward if self.reward else None

    @property
    def why(self) -> tuple[str, str]:
        """The reason's word and a sentence for an answer without a number."""
        if self.error is not None:
            return "stopped", str(self.error)
        if self.reward is None:
            return "pending", f"not scored within the deadline; it is still being scored: GET /v1/rewards/{self.id}"
        unscored = self.reward.unscored
        return (unscored.reason, f"{unscored.dimension}: {unscored.detail}") if unscored else ("", "")


@dataclass(slots=True)
class Scorings:
    """Scores answers with one model, the same answer once.

    Every answer is a sample of its own, so what is asked doesn't depend on which answers come together; the model
    shares what belongs to document and question (``RewardModel.from_pipeline(share_s=…)``). An answer whose deadline
    passes is scored to its end all the same: who asks again gets the reward without another call.

    Parameters
    ----------
    most_open: answers being scored at once, beyond which others are refused.
    """

    model: lrf.RewardModel
    most_open: int
    _open: dict[str, asyncio.Task[Scored]] = field(default_factory=dict)
    _done: OrderedDict[str, Scored] = field(default_factory=OrderedDict)
    _ended: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def open(self) -> int:
        """Answers that are being scored."""
        return len(self._open)

    def find(self, key: str) -> Scored | None:
        """The outcome of the answer with this id; None where it isn't known (any more)."""
        return Scored(key) if key in self._open else self._done.get(key)

    async def score(self, sample: Sample, deadline_s: float) -> list[Scored]:
        """The outcome of each candidate, in order, once all are scored or the deadline has passed.

        Raises :class:`BusyError` before any of them is begun.
        """
        keys = [reward_id(sample, candidate) for candidate in sample.candidates]
        done = {key: self._done[key] for key in keys if key in self._done and self._done[key].final}
        new = [key for key in dict.fromkeys(keys) if key not in done and key not in self._open]
        if self._open and len(self._open) + len(new) > self.most_open:
            raise BusyError(len(self._open), self._retry_after_s(len(new)))
        for key, candidate in zip(keys, sample.candidates, strict=True):
            if key in new and key not in self._open:
                self._begin(key, replace(sample, candidates=(replace(candidate, id=key),)))
        tasks = {key: self._open[key] for key in keys if key in self._open}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=deadline_s)
        ended = {key: task.result() for key, task in tasks.items() if task.done()}
        return [done.get(key) or ended.get(key) or Scored(key) for key in keys]

    def _begin(self, key: str, sample: Sample) -> None:
        task = self._open[key] = asyncio.create_task(self._score(key, sample))
        task.add_done_callback(lambda ended: self._end(key, ended.result()))

    async def _score(self, key: str, sample: Sample) -> Scored:
        try:
            return Scored(key, (await self.model.score_sample(sample))[0])
        except LrfError as error:
            return Scored(key, error=error)
        except Exception as error:  # lrf's own fault: the request gets an answer all the same
            return Scored(key, error=StageError(f"scoring failed: {type(error).__name__}: {error}"))

    def _end(self, key: str, scored: Scored) -> None:
        del self._open[key]
        self._ended.append(time.monotonic())
        self._done[key] = scored
        self._done.move_to_end(key)
        if len(self._done) > KEPT:
            self._done.popitem(last=False)

    def _retry_after_s(self, needed: int) -> int:
        """Seconds until this many answers will have been scored, by the pace of the last ones: 1 to 60."""
        if len(self._ended) < 2:
            return 5
        took = max(self._ended[-1] - self._ended[0], 1e-3)
        return min(60, max(1, math.ceil(needed * took / len(self._ended))))

    async def finish(self) -> None:
        """Wait for all answers that are being scored."""
        while self._open:
            await asyncio.wait(self._open.values())


def reward_id(sample: Sample, candidate: Candidate) -> str:
    """The id of an answer's reward: a hash of documents, question and answer."""
    return document_id(f"{sample.id}\0{candidate.text}")[:40]


def rating_of(scored: Scored, dimension: str) -> float | None:
    """The rating of one dimension, where there is one."""
    return scored.reward.ratings.get(dimension) if scored.reward else None


def dimensions_of(scored: Sequence[Scored]) -> list[str]:
    """The names of the dimensions, in the pipeline's order."""
    ratings: Mapping[str, float | None] = next((s.reward.ratings for s in scored if s.reward), {})
    return list(ratings)
