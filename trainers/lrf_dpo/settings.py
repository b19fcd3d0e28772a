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
    """DPO with a cross-entropy term, as in the LongReward paper: β 0.15, λ 0.1, learning rate 1e-6, batch 16.

    With ``loss: all_pairs`` or ``listwise`` a row is a prompt with all of its scored candidates, not a pair.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = PolicySettings.not_fingerprinted | {"prefix_sharing"}

    beta: float = Field(0.15, gt=0, description="β of DPO: how strongly the policy is kept near the reference policy")
    loss: Literal["sigmoid", "all_pairs", "listwise"] = Field(
        "sigmoid",
        description="sigmoid: DPO on the pairs (arXiv 2305.18290). The others train on all scored candidates of a "
        "prompt, in one forward pass of the prompt, from lists.jsonl: all_pairs, DPO on each two candidates whose "
        "rewards differ by margin (LiPO's pairwise logistic loss, arXiv 2402.01878); listwise, DPO for rankings by "
        "Plackett and Luce (arXiv 2305.18290, appendix A.3)",
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="with all_pairs and listwise: candidates whose rewards differ by less aren't compared. Equal "
        "rewards never are; `lrf audit --noise` measures how much of a difference is noise",
    )
    margin_weights: bool = Field(
        True, description="with all_pairs: weigh each pair by the difference of its rewards; else all pairs alike"
    )
    ce: CE = Field(CE(), description="the cross-entropy term on the chosen answer: of a list, the best")
    reference: Literal["auto", "stored", "adapter_off"] = Field(
        "auto",
        description="log-probabilities under the reference policy: stored, computed before training and kept in a "
        "file; or adapter_off, by one more pass in each step with the LoRA adapters switched off. auto is adapter_off "
        "with LoRA and one epoch at most, else stored",
    )

    on_bad_pair: Literal["stop", "drop"] = Field(
        "stop",
        description="what happens at a pair of equal answers or with an empty answer, and at a list without two "
        "different answers to compare: stop, or drop it",
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

    @model_validator(mode="after")
    def _a_margin_is_of_lists(self) -> Self:
        if self.margin and not self.lists:
            raise ValueError("margin is for loss: all_pairs and listwise; the pairs' own is pairs.margin")
        return self

    @property
    def lists(self) -> bool:
        """Whether rows are ranked lists, not pairs."""
        return self.loss != "sigmoid"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("lists",) if self.lists else ("pairs",)

    @property
    def sequences_a_row(self) -> int:
        return 1 if self.prefix_sharing != "off" else self.answers_a_row

    @property
    def answers_a_row(self) -> int:
        return 10 if self.lists else 2  # the paper samples ten candidates

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
