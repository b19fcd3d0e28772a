"""Rewards of a step's answers: asked for by the first process, weighed, and given to all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lrf.errors import JudgeSilentError, LrfError, StageError
from lrf.protocols import Answers, Rewards
from lrf.types import Reward
from lrf_grpo.patience import Patience, Wait

T = TypeVar("T")

REWARD = "reward"
"""The column of the pipeline's own reward."""


@dataclass(slots=True)
class PatientRewards:
    """Asks for rewards, and waits for a judge that has gone away.

    Parameters
    ----------
    rewards: of the job.
    patience: with the judge; its ``report`` is also called when the judge serves again.
    """

    rewards: Rewards
    patience: Patience

    def score(self, answers: Sequence[Answers]) -> list[list[Reward]]:
        """The rewards of each prompt's answers.

        An answer that a server's trouble left unscored is asked for again as long as others are served meanwhile, and
        after that stays unscored. If nothing is served, or half of the answers are left so (a judge that goes away in
        the midst of a step has served the others before), training waits. Raises
        :class:`lrf.errors.JudgeSilentError` when patience ends, :class:`lrf.errors.RunInterruptedError` when the
        user stops it while it waits, and what stops all scoring at once.
        """
        wait = Wait(self.patience)
        scored: list[list[Reward]] = [[] for _ in answers]
        left = list(range(len(answers)))
        while True:
            silent, before = self._ask(answers, left, scored), left
            left = [n for n in left if not scored[n] or any(_in_trouble(reward) for reward in scored[n])]
            if not left:
                break
            if silent is None and len(left) < len(before):
                continue
            in_trouble = [_in_trouble(reward) for rewards in scored for reward in rewards]
            if silent is None and sum(in_trouble) < len(in_trouble) / 2:
                break  # most are served: it is these answers
            why = silent or _trouble(scored)
            if not wait.pause(why):
                raise JudgeSilentError(self.patience.ended(why))
        if wait.began:
            self.patience.report({"note": "the judge serves again; training goes on"})
        return scored

    def _ask(
        self, answers: Sequence[Answers], wanted: Sequence[int], scored: list[list[Reward]]
    ) -> JudgeSilentError | None:
        """Ask for all answers of these prompts (those scored before cost nothing); the error of a lost server."""
        try:
            found = self.rewards.score([answers[n] for n in wanted])
        except JudgeSilentError as error:
            return error
        for n, rewards in zip(wanted, found, strict=True):
            scored[n] = list(rewards)
        return None


def _in_trouble(reward: Reward) -> bool:
    return reward.unscored is not None and reward.unscored.transient


def _trouble(scored: Sequence[Sequence[Reward]]) -> str:
    unscored = next((r.unscored for rewards in scored for r in rewards if r.unscored and r.unscored.transient), None)
    return f"{unscored.reason}: {unscored.detail}" if unscored else "no reply"


@dataclass(frozen=True, slots=True)
class Weighing:
    """Rewards as rows of numbers, one column each for TRL's reward functions.

    Parameters
    ----------
    dimensions: of the pipeline.
    weights: of dimensions; empty: the pipeline's own reward counts, and the dimensions are only logged.
    """

    dimensions: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.dimensions if self.weights else (REWARD, *self.dimensions)

    @property
    def column_weights(self) -> list[float]:
        if self.weights:
            return [self.weights.get(name, 0.0) for name in self.dimensions]
        return [1.0, *(0.0 for _ in self.dimensions)]

    def row(self, reward: Reward) -> list[float]:
        """The numbers of one answer, NaN throughout if something that counts is missing: it is then unscored.

        TRL adds up what is there, so that an answer with one rating missing would be one with a rating of 0.
        """
        numbers = {REWARD: reward.reward, **reward.ratings}
        counted = [name for name, weight in zip(self.columns, self.column_weights, strict=True) if weight]
        if any(numbers.get(name) is None for name in counted):
            return [math.nan] * len(self.columns)
        return [math.nan if (number := numbers.get(name)) is None else number for name in self.columns]


def outcome(work: Callable[[], list[T]]) -> tuple[list[T], str | None, int]:
    """The result, or the sentence and the exit code of the error that stops training: what processes can be sent."""
    try:
        return work(), None, 0
    except LrfError as error:
        return [], str(error), error.exit_code


def stopping(sentence: str, exit_code: int, saved: str) -> StageError:
    """The error with which training stops."""
    error = StageError(f"{sentence}. {saved}")
    error.exit_code = exit_code
    return error
