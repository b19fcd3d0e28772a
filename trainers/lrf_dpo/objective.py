"""L = L_DPO + λ·L_CE, on TRL's trainer."""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOConfig, DPOTrainer

from lrf_dpo.settings import CE
from lrf_training.trainer import Guarded


def loss_terms(ce: CE) -> dict[str, list[Any]]:
    """The terms that TRL adds up itself: its "sft" is the mean over the micro-batch's chosen tokens."""
    if ce.weight and ce.reduction == "token_mean":
        return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, ce.weight]}
    return {"loss_type": ["sigmoid"], "loss_weights": [1.0]}


def _sum_in_64_bits(model: Any, args: Any, outputs: Any) -> Any:
    """An answer's log-probability is a sum of hundreds of terms, of which DPO takes small differences.

    In float32 the order of the sum alone moves loss and gradients by some 1e-5 (answers of 128 tokens).
    """
    outputs.log_probs = outputs.log_probs.double()
    return outputs


class DPOWithCE(Guarded, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's DPO trainer on pairs that are token ids already, with every reduction of the cross-entropy term.

    Stops with a :class:`lrf.errors.StageError` at a loss or gradient that is no number, before the weights change.
    """

    def __init__(self, *, ce: CE, args: DPOConfig, **kwargs: Any) -> None:
        self.ce = ce
        super().__init__(args=args, **kwargs)
        for model in (self.model, self.ref_model):
            model.register_forward_hook(_sum_in_64_bits)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # token ids already

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        policy_outputs: list[Any] = []

        def forward(**kwargs: Any) -> Any:  # TRL calls the policy once; its log-probabilities are needed below
            policy_outputs.append(model(**kwargs))
            return policy_outputs[0]

        loss = super()._compute_loss(forward, inputs, return_outputs)
        ce = self._cross_entropy(policy_outputs[0].log_probs, inputs["completion_mask"][:, 1:])
        if self.ce.weight and self.ce.reduction != "token_mean":
            loss = loss + self.ce.weight * ce
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["loss/ce"].append(ce.item())
        self.stop_unless_finite("loss", loss.detach())
        return loss

    def _cross_entropy(self, log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``log_probs`` and ``mask`` are (2·pairs, tokens), the chosen answers first; log_probs are 0 off the mask."""
        chosen = -log_probs.chunk(2)[0].sum(1)  # (pairs,): −log π(y_w|x)
        tokens = mask.chunk(2)[0].sum(1)  # (pairs,)
        match self.ce.reduction:
            case "token_mean":
                return chosen.sum() / tokens.sum()
            case "seq_mean":
                return (chosen / tokens).mean()
            case "sum":
                return chosen.mean()
