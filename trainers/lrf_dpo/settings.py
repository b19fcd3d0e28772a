"""Settings of the ``dpo`` trainer."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lrf.settings import Settings
from lrf_training.settings import PolicySettings


class CE(Settings):
    """The cross-entropy term on the chosen answer, added to the DPO loss."""

    weight: float = Field(0.1, ge=0, description="λ in L_DPO + λ·L_CE; 0 omits the term")
    reduction: Literal["token_mean", "seq_mean", "sum"] = Field(
        "token_mean",
        description="What L_CE is, for the pairs of a micro-batch: token_mean, the mean over all their chosen tokens; "
        "seq_mean, the mean over the tokens of each chosen answer, then over the answers; sum, the sum over the tokens "
        "of each chosen answer (−log π(y_w|x)), then the mean over the answers. The LongReward paper doesn't say "
        "which it used",
    )


class DPOSettings(PolicySettings):
    """DPO with a cross-entropy term, as in the LongReward paper: β 0.15, λ 0.1, learning rate 1e-6, batch 16."""

    not_fingerprinted: ClassVar[frozenset[str]] = PolicySettings.not_fingerprinted | {"prefix_sharing"}

    beta: float = Field(0.15, gt=0, description="β of DPO: how strongly the policy is kept near the reference policy")
    ce: CE = Field(CE(), description="the cross-entropy term on the chosen answer")
    reference: Literal["auto", "stored", "adapter_off"] = Field(
        "auto",
        description="log-probabilities under the reference policy: stored, computed before training and kept in a "
        "file; or adapter_off, by one more pass in each step with the LoRA adapters switched off. auto is adapter_off "
        "with LoRA and one epoch at most, else stored",
    )

    on_bad_pair: Literal["stop", "drop"] = Field(
        "stop", description="what happens at a pair of equal answers or with an empty answer: stop, or drop it"
    )
    prefix_sharing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="forward a prompt once for all of its answers in a micro-batch, with the same loss: auto, if the "
        "model is known to allow it; on, or stop with the reason; off",
    )
    prompts_together: bool = Field(
        False,
        description="put pairs of one prompt into the same micro-batch, as far as they fit, so that prefix sharing "
        "forwards the prompt once for all of them. Pairs are then shuffled by prompt",
    )

    @model_validator(mode="after")
    def _an_adapter_to_switch_off(self) -> Self:
        if self.reference == "adapter_off" and self.lora is None:
            raise ValueError("reference: adapter_off needs lora; take stored")
        return self

    @property
    def sequences_a_row(self) -> int:
        return 2 if self.prefix_sharing == "off" else 1

    @model_validator(mode="after")
    def _sequences_can_be_split(self) -> Self:
        if self.sequence_parallel > 1 and (self.prefix_sharing == "off" or self.micro_batch > 1):
            raise ValueError("sequence_parallel works with prefix sharing and micro_batch: 1 only")
        return self

    @property
    def stores_reference(self) -> bool:
        """Whether reference log-probabilities are computed before training and stored."""
        if self.reference == "auto":
            return self.lora is None or self.max_steps is not None or self.epochs > 1
        return self.reference == "stored"
