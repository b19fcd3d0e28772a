"""Settings of the ``sft`` trainer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lrf_training.settings import PolicySettings, TrainingSource


class SFTSettings(PolicySettings):
    """Supervised fine-tuning, as in the LongReward paper: learning rate 1e-5, batch 8, 1,800 steps (two epochs)."""

    sources: list[TrainingSource] = Field(
        [],
        description="files of rows, each with `messages`, or with `prompt` and `completion` (text, or messages); only "
        "the assistant's answers are part of the loss",
    )
    own_weight: float = Field(
        0.0, ge=0, description="how many times the chosen answer of each of the run's own pairs is taken; 0: never"
    )
    learning_rate: float = Field(1e-5, gt=0, description="highest learning rate of AdamW")
    epochs: float = Field(2.0, gt=0, description="passes over the rows, if max_steps is null")
    global_batch: int = Field(
        8, ge=1, description="rows an optimizer step (with `packing`, packed sequences), over all processes"
    )
    packing: bool = Field(
        False,
        description="fill sequences of max_tokens (or the model's window) with whole rows, of which none attends to "
        "another: the same loss for the same rows, and no time for padding. For architectures of plain causal "
        "attention; others are refused",
    )
    on_bad_row: Literal["stop", "drop"] = Field(
        "stop", description="what happens at a row without an answer to train on: stop, or drop it"
    )

    rewritten_answers: Literal["separate", "leave_out"] = Field(
        "separate",
        description="earlier answers of a conversation of which the chat template leaves something out once more turns "
        "follow (their thoughts, say): train each in a sequence of its own, as it was written then, or leave them out",
    )

    @property
    def reads(self) -> tuple[str, ...]:
        return ("pairs",) if self.own_weight else ()

    @model_validator(mode="after")
    def _there_are_rows(self) -> Self:
        if not self.sources and not self.own_weight:
            raise ValueError(
                "there is nothing to train on: give `sources`, or `own_weight: 1` for the chosen answers of the run's "
                "own pairs"
            )
        return self
