"""Settings of the ``reward`` trainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lrf.errors import ConfigError
from lrf.settings import Shares
from lrf_training.settings import TrainingSettings


class RewardSettings(TrainingSettings):
    """A small reward model, distilled from the judges' ratings or from pairs. It starts from `policy.model`."""

    objective: Literal["ratings", "preferences"] = Field(
        "ratings",
        description="ratings: one output a dimension, by the mean squared error against its ratings. preferences: one "
        "output, by the Bradley-Terry likelihood of the run's preference pairs",
    )
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the samples, chosen by a hash of their ids, for evaluation only: at least one; it takes "
        "five samples or more. 0: evaluated on the rows that are trained on",
    )
    on_bad_row: Literal["stop", "drop"] = Field(
        "stop", description="what happens at a pair of equal answers: stop, or drop it"
    )
    learning_rate: float = Field(1e-5, gt=0, description="highest learning rate of AdamW")
    epochs: float = Field(2.0, gt=0, description="passes over the rows, if max_steps is null")

    def shares(self, world: int) -> Shares:
        if world > 1 or self.zero:
            raise ConfigError("a reward model is trained in one process, without DeepSpeed; take the launcher local")
        accumulation = self.global_batch // self.micro_batch
        return Shares(accumulation, global_batch=self.global_batch, micro_batch=self.micro_batch)

    @property
    def reads(self) -> tuple[str, ...]:
        """The run's files that the training reads."""
        return ("scored",) if self.objective == "ratings" else ("pairs",)
