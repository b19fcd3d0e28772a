"""Settings of the ``grpo`` trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from lrf.http.settings import BaseUrl, EnvName
from lrf.settings import FilePath, Rollouts, Settings, Shares
from lrf_training.settings import BasePolicySettings, Evaluation


class VLLM(Settings):
    """A vLLM server that writes the answers; the policy's weights reach it through a folder."""

    base_url: BaseUrl = Field("http://127.0.0.1:8000", description="address of the server")
    api_key_env: EnvName | None = Field(None, description="environment variable that holds the server's key, if any")
    weights: FilePath | None = Field(
        None,
        description="folder in which the policy is put for the server, which must see it by the same name; /dev/shm/… "
        "is fastest where both are on one machine. null: in the run's folder",
    )
    request_timeout_s: float = Field(
        3600.0, gt=0, description="seconds in which a group of answers must be written, and the weights loaded"
    )


class GRPOSettings(BasePolicySettings):
    """GRPO (arXiv 2402.03300) and RLOO (arXiv 2402.14740): groups of answers, rewarded while the policy trains."""

    not_fingerprinted: ClassVar[frozenset[str]] = BasePolicySettings.not_fingerprinted | {
        "prefix_sharing",
        "patience",
        "vllm",
    }

    method: Literal["grpo", "rloo", "online_dpo"] = Field(
        "grpo",
        description="grpo: an answer's advantage is its reward less the group's mean, as `scale` and `loss` say; rloo: "
        "its reward less the mean of the group's other answers, unscaled, for whole answers; online_dpo: DPO over all "
        "pairs of a group whose rewards differ",
    )
    group: int = Field(8, ge=2, description="answers written for each prompt")
    global_batch: int = Field(
        8, ge=1, description="prompts an optimizer step, over all processes; each has a group of answers"
    )
    micro_batch: int = Field(
        1, ge=1, description="prompts, with their groups, in a process's memory at once; must divide global_batch"
    )
    iterations: int = Field(
        1, ge=1, description="optimizer steps made of each batch of answers: more of them save calls of judges"
    )
    answer_tokens: int = Field(512, ge=1, description="longest answer, in tokens of the policy")
    temperature: float = Field(1.0, gt=0, le=2, description="temperature at which answers are written")
    top_p: float = Field(1.0, gt=0, le=1, description="answers' tokens are drawn from this share of the probability")
    mask_cut_off: bool = Field(
        False,
        description="leave answers that were cut off at answer_tokens out of the loss; they are rewarded all the same",
    )

    weights: Mapping[str, float] = Field(
        {},
        description="weights of the dimensions: the reward is their weighted sum; empty: the pipeline's own reward, as "
        "its aggregator makes it. Each dimension is logged apart in either case",
    )
    normalize: Literal["sum", "dimension"] = Field(
        "sum",
        description="sum: the reward is normalised within its group; dimension: with `weights`, each dimension is, "
        "before they are added up (GDPO, arXiv 2601.05242)",
    )
    scale: Literal["group", "batch", "none"] = Field(
        "group",
        description="what advantages are divided by: the standard deviation of the group's rewards, of the batch's, or "
        "nothing (Dr. GRPO, arXiv 2503.20783)",
    )
    loss: Literal["dapo", "grpo", "dr_grpo"] = Field(
        "dapo",
        description="how tokens are averaged: dapo, over all answer tokens of the step (arXiv 2503.14476); grpo, over "
        "each answer's, then over the answers; dr_grpo, over answers × answer_tokens (arXiv 2503.20783)",
    )
    clip: float = Field(
        0.2,
        gt=0,
        description="ε: how far a token's probability (rloo: an answer's) may move in the steps of one batch; not of "
        "online_dpo",
    )
    clip_high: float | None = Field(None, gt=0, description="ε upwards (DAPO's is 0.28); null: as clip")
    beta: float = Field(
        0.0,
        ge=0,
        description="weight of the KL divergence from the reference policy (grpo: in the loss; rloo: taken from the "
        "reward); 0 keeps no reference policy. online_dpo: DPO's β, above 0",
    )

    evaluation: Evaluation | None = Field(
        None,
        description="hold prompts out: each evaluation writes one answer to each of them and has it rewarded, which "
        "costs calls, too; the highest mean reward is the best. null: none",
    )

    vllm: VLLM | None = Field(
        None, description="write answers with a vLLM server; null: with transformers, in the training's own processes"
    )
    patience: float = Field(
        3600.0,
        ge=0,
        description="seconds for which training waits for a judge (or vLLM) that serves nothing any more; after that "
        "its state is saved, and the run stops",
    )
    prefix_sharing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="forward a prompt once for its group, with the same loss: auto, if the model is known to allow it; "
        "on, or stop with the reason; off",
    )

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prompts",)

    def rollouts(self, prompts: int) -> Rollouts:
        held_out = max(int(self.evaluation.held_out * prompts), 1) if self.evaluation else 0
        steps = self.max_steps or int(self.epochs * ((prompts - held_out) // self.global_batch) * self.iterations)
        visits = -(-steps // self.iterations) * self.global_batch
        if self.evaluation:  # one answer a prompt, not a group
            visits += -(-held_out * (steps // self.evaluation.every) // self.group)
        return Rollouts(visits, self.group, self.answer_tokens)

    def shares(self, world: int) -> Shares:
        shares = super().shares(world)
        if shares.deepspeed is None:
            return shares
        sequences = {"train_micro_batch_size_per_gpu": self.micro_batch * self.group}
        return replace(shares, deepspeed={**shares.deepspeed, **sequences})

    @property
    def sequences_a_row(self) -> int:
        return self.group if self.prefix_sharing == "off" else 1

    @property
    def answers_a_row(self) -> int:
        return self.group

    @model_validator(mode="after")
    def _trl_can_do_it(self) -> Self:
        if self.sequence_parallel > 1:
            raise ValueError("TRL's GRPOTrainer refuses sequence_parallel; set it to 1, and take zero: 3 for memory")
        others = self.loss != "dapo" or self.scale != "group" or self.normalize != "sum"
        if self.method != "grpo" and others:
            raise ValueError(f"loss, scale and normalize are of method: grpo; leave them out with {self.method}")
        if self.method == "online_dpo" and not self.beta:
            raise ValueError("method: online_dpo needs a beta above 0, such as 0.1")
        if self.normalize == "dimension" and not self.weights:
            raise ValueError("normalize: dimension needs `weights`, the dimensions that are added up")
        if self.save_every is not None and self.save_every % self.iterations:
            raise ValueError(f"save_every ({self.save_every}) must be a multiple of iterations ({self.iterations})")
        return self

    @model_validator(mode="after")
    def _weights_are_of_dimensions(self, info: ValidationInfo) -> Self:
        known = (info.context or {}).get("dimensions")
        if known is not None and (unknown := [name for name in self.weights if name not in known]):
            raise ValueError(f"weights: no dimension is named {', '.join(unknown)}; dimensions: {', '.join(known)}")
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights: all are 0, so there is no reward")
        return self
