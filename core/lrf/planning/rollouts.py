"""Answers that stand in for those which an online trainer will write and ask rewards for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lrf.planning.sampling import BYTES_A_TOKEN, CANDIDATE_TOKENS, expected_answer
from lrf.settings import Rollouts, TrainerSettings
from lrf.types import Candidate, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline


@dataclass(slots=True)
class RolloutPlan:
    """The answers of one visit to a prompt; how often the prompts are visited in all is in :meth:`visits`."""

    trainer: str
    settings: TrainerSettings

    def missing(self, sample: Sample) -> int:
        """How many answers the trainer writes when it visits the sample."""
        return self._rollouts(0).answers

    def visits(self, prompts: int) -> int:
        """How often the policy's training visits a prompt, for data with this many prompts."""
        return self._rollouts(prompts).prompts

    def add(self, sample: Sample) -> tuple[Sample, Sample]:
        """The sample with answers as they are expected, and as long as they can be."""
        rollouts = self._rollouts(0)
        tokens = min(rollouts.answer_tokens, CANDIDATE_TOKENS)
        expected = [Candidate(f"answer-{n}", expected_answer(n, tokens)) for n in range(rollouts.answers)]
        width = BYTES_A_TOKEN * rollouts.answer_tokens
        longest = [Candidate(f"answer-{n}", f"{n}".ljust(width, "x")) for n in range(rollouts.answers)]
        return replace(sample, candidates=tuple(expected)), replace(sample, candidates=tuple(longest))

    def _rollouts(self, prompts: int) -> Rollouts:
        return self.settings.rollouts(prompts) or Rollouts(0, 0, 0)


def plan_rollouts(pipeline: Pipeline) -> RolloutPlan | None:
    """The plan of the answers that a pipeline's trainer writes; None for a pipeline whose trainer asks for no rewards.

    A trainer that doesn't say how many it writes is planned to ask for none.
    """
    if pipeline.train is None or not pipeline.online or not isinstance(pipeline.train.settings, TrainerSettings):
        return None
    return RolloutPlan(pipeline.train.type, pipeline.train.settings)
