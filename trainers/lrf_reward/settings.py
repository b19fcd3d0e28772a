"""Settings of the ``reward`` trainer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lrf_training.settings import BasePolicySettings, Evaluation


class RewardSettings(BasePolicySettings):
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
    evaluation: Evaluation | None = Field(
        None,
        description="hold further samples out (a share of those that `held_out` leaves) and evaluate the loss on them "
        "while training: what chooses the checkpoint isn't what its agreement is measured on. null: none",
    )
    on_bad_row: Literal["stop", "drop"] = Field(
        "stop", description="what happens at a pair of equal answers: stop, or drop it"
    )
    learning_rate: float = Field(1e-5, gt=0, description="highest learning rate of AdamW")
    epochs: float = Field(2.0, gt=0, description="passes over the rows, if max_steps is null")

    @model_validator(mode="after")
    def _a_whole_model_comes_out(self) -> Self:
        if self.lora and not self.lora.merge:
            raise ValueError("lora needs merge: true here: the dimension `classifier` loads a whole model")
        if self.sequence_parallel > 1:
            raise ValueError("sequence_parallel doesn't work with a reward model; set it to 1")
        return self

    @property
    def sequences_a_row(self) -> int:
        return 2 if self.objective == "preferences" else 1

    @property
    def has_lm_head(self) -> bool:
        return False

    @property
    def reads(self) -> tuple[str, ...]:
        """The run's files that the training reads."""
        return ("scored",) if self.objective == "ratings" else ("pairs",)
