"""Settings of the ``dpo`` trainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lrf.settings import Settings
from lrf_training.settings import TrainingSettings


class CE(Settings):
    """The cross-entropy term on the chosen answer, added to the DPO loss."""

    weight: float = Field(0.1, ge=0, description="λ in L_DPO + λ·L_CE; 0 leaves the term out")
    reduction: Literal["token_mean", "seq_mean", "sum"] = Field(
        "token_mean",
        description="What L_CE is, for the pairs of a micro-batch: token_mean, the mean over all their chosen tokens; "
        "seq_mean, the mean over the tokens of each chosen answer, then over the answers; sum, the sum over the tokens "
        "of each chosen answer (−log π(y_w|x)), then the mean over the answers. The LongReward paper doesn't say "
        "which it used",
    )


class DPOSettings(TrainingSettings):
    """DPO with a cross-entropy term, as in the LongReward paper: β 0.15, λ 0.1, learning rate 1e-6, batch 16."""

    beta: float = Field(0.15, gt=0, description="β of DPO: how strongly the policy is held to the reference policy")
    ce: CE = Field(CE(), description="the cross-entropy term on the chosen answer")

    on_bad_pair: Literal["stop", "drop"] = Field(
        "stop", description="what a pair without difference, or with an empty answer, does: stop, or be left out"
    )
    prefix_sharing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="forward a prompt once for both of its answers, with the same loss: auto where the model is known "
        "to allow it, on (or stop with the reason), off",
    )
