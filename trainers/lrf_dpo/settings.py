"""Settings of the ``dpo`` trainer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from lrf.settings import FilePath, Settings


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


class Init(Settings):
    """A tiny random Llama to try the machinery without weights. It learns nothing of worth."""

    hidden: int = Field(64, ge=8, description="size of the hidden states; the MLP has four times as many")
    layers: int = Field(2, ge=1, description="number of layers")
    heads: int = Field(4, ge=1, description="attention heads; hidden must be a multiple of twice this")
    vocab: int = Field(
        2000, ge=300, description="largest vocabulary of the byte-level BPE tokenizer trained on the pairs' own text"
    )

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of twice the heads ({2 * self.heads})")
        return self


class DPOSettings(Settings):
    """DPO with a cross-entropy term, as in the LongReward paper: β 0.15, λ 0.1, learning rate 1e-6, batch 16."""

    beta: float = Field(0.15, gt=0, description="β of DPO: how strongly the policy is held to the reference policy")
    ce: CE = Field(CE(), description="the cross-entropy term on the chosen answer")

    learning_rate: float = Field(1e-6, gt=0, description="highest learning rate of AdamW")
    scheduler: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="how the learning rate goes on after the warm-up"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps over which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")

    epochs: float = Field(1.0, gt=0, description="how many times the pairs are gone through, where max_steps is null")
    max_steps: int | None = Field(None, ge=1, description="number of optimizer steps, in place of epochs")
    global_batch: int = Field(16, ge=1, description="pairs an optimizer step")
    micro_batch: int = Field(1, ge=1, description="pairs in memory at once; must divide global_batch")

    max_tokens: int | None = Field(
        None,
        ge=2,
        description="longest prompt with answer, in tokens; null leaves only the model's own window. Nothing is ever "
        "cut: a longer pair is treated as on_too_long says",
    )
    on_too_long: Literal["stop", "drop"] = Field("stop", description="what a pair too long does: stop, or be left out")
    on_bad_pair: Literal["stop", "drop"] = Field(
        "stop", description="what a pair without difference, or with an empty answer, does: stop, or be left out"
    )
    max_lost: float = Field(0.0, ge=0, le=1, description="largest share of the pairs that may be left out")

    chat_template: FilePath | None = Field(
        None,
        description="a file with a Jinja chat template, in place of the tokenizer's own; without either a plain one is "
        "used, and the report says so",
    )
    init: Init | None = Field(None, description="a tiny random policy in place of policy.model, for a trial")

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of the passes: auto is bfloat16 on a GPU, else float32. Weights and optimizer state "
        "stay float32, since steps of 1e-6 vanish in bfloat16",
    )
    gradient_checkpointing: bool = Field(
        True, description="compute activations again in the backward pass rather than keep them"
    )
    prefix_sharing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="forward a prompt once for both of its answers, with the same loss: auto where the model is known "
        "to allow it, on (or stop with the reason), off",
    )
    save_every: int | None = Field(
        None, ge=1, description="steps between checkpoints; null saves at the end only. A new one replaces the last"
    )

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> Self:
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch ({self.global_batch}) must be a multiple of micro_batch ({self.micro_batch})"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_policy(self, info: ValidationInfo) -> Self:
        known = info.context or {}
        if "policy_model" in known and known["policy_model"] is None and self.init is None:
            raise ValueError("there is no policy to train: give `policy.model`, or `init` for a tiny random one")
        return self

    @property
    def accumulation(self) -> int:
        """Micro-batches an optimizer step."""
        return self.global_batch // self.micro_batch
