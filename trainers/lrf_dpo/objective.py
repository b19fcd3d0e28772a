"""The loss L_DPO + λ·L_CE, on TRL's ``DPOTrainer``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer
from trl.models import prepare_deepspeed

from lrf_dpo.alarms import LengthCorrelation
from lrf_dpo.reference import REFERENCE_COLUMNS, tokens_hash
from lrf_dpo.sampler import PairSampler
from lrf_dpo.settings import CE
from lrf_training.prefix_sharing import PrefixSharing
from lrf_training.sequence_parallel import sequence_group
from lrf_training.tiling import fused_log_probs
from lrf_training.trainer import CheckedTrainer


def loss_terms(ce: CE) -> dict[str, list[Any]]:
    """Loss terms that TRL computes itself: its "sft" is the mean over the chosen tokens of a micro-batch."""
    if ce.weight and ce.reduction == "token_mean":
        return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, ce.weight]}
    return {"loss_type": ["sigmoid"], "loss_weights": [1.0]}


def sum_in_64_bits(model: Any, args: Any, outputs: Any) -> Any:
    """A forward hook: token log-probabilities in float64, so that their sums are.

    DPO takes small differences of sums of hundreds of terms. In float32 the order of summation alone changes loss and
    gradients by some 1e-5 (answers of 128 tokens).
    """
    outputs.log_probs = outputs.log_probs.double()
    return outputs


BITS = "ref_logps_bits"


class ReferenceLogpsCollator:
    """A data collator that adds the stored reference log-probabilities, (2, pairs), as the bits of float64.

    They are integers because transformers casts a batch's floats to bfloat16 under DeepSpeed, where −500 is off by up
    to 1.

    >>> row = {"prompt_ids": [1], "chosen_ids": [2], "ref_chosen_logps": -2.5, "ref_rejected_logps": -4.0}
    >>> batch = ReferenceLogpsCollator(lambda rows: {})([row])
    >>> batch["ref_logps_bits"].view(torch.float64)
    tensor([[-2.5000],
            [-4.0000]], dtype=torch.float64)
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.collate(
            [{k: v for k, v in row.items() if k not in REFERENCE_COLUMNS} for row in rows]
        )
        if REFERENCE_COLUMNS[0] in rows[0]:
            stored = [[row[name] for row in rows] for name in REFERENCE_COLUMNS]
            batch[BITS] = torch.tensor(stored, dtype=torch.float64).view(torch.int64)
        return batch


class DPOWithCETrainer(CheckedTrainer, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's DPO trainer for tokenised pairs, with all reductions of the cross-entropy term.

    With ``args.precompute_ref_log_probs``, the rows need the columns of :mod:`lrf_dpo.reference` before ``train``;
    :meth:`reference_log_probs` computes them. Set ``sharing`` for sequence parallelism.

    Parameters
    ----------
    ce: the cross-entropy term.
    prompts_together: put pairs of one prompt into the same micro-batch.
    """

    sharing: PrefixSharing

    def __init__(
        self, *, ce: CE, args: DPOConfig, prompts_together: bool = False, data_collator: Any = None, **kwargs: Any
    ) -> None:
        self.ce, self.prompts_together = ce, prompts_together
        self.lengths = LengthCorrelation()
        super().__init__(args=args, data_collator=data_collator, **kwargs)
        self.data_collator: Any = ReferenceLogpsCollator(self.data_collator)
        for model in filter(None, (self.model, self.ref_model)):
            model.register_forward_hook(sum_in_64_bits)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # tokenised already

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset  # computed by lrf_dpo.reference

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        rows = self.train_dataset if dataset is None else dataset
        prompts = [tokens_hash(row["prompt_ids"]) for row in rows] if self.prompts_together else range(len(rows))
        copies = super().get_sp_size()
        order = PairSampler(prompts, self.args.per_device_train_batch_size, self.args.seed, copies)
        self.add_callback(order)
        return order

    def get_sp_size(self) -> int:
        """Always 1: :class:`PairSampler`, not transformers, distributes rows for sequence parallelism."""
        return 1

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        self.accelerator.deepspeed_ulysses_dl_adapter = lambda loader, model: loader
        prepared = super()._prepare_for_training(*args, **kwargs)
        if super().get_sp_size() > 1:
            self.sharing.group = sequence_group()
        return prepared

    def reference_log_probs(self, row: Mapping[str, list[int]]) -> tuple[float, float]:
        """log π_ref of a row's chosen and rejected answers, in nats. Call it before the first step of training."""
        self.model.eval()
        chosen, rejected = self.compute_ref_log_probs(
            self._untrained, self._prepare_inputs(self.data_collator([dict(row)]))
        )
        return float(chosen), float(rejected)

    @cached_property
    def _untrained(self) -> Any:
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(self.model, self.accelerator)
        return self.model.to(self.accelerator.device)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if (stored := inputs.pop(BITS, None)) is not None:
            chosen_logps, rejected_logps = stored.view(torch.float64)
            inputs |= {"ref_chosen_logps": chosen_logps, "ref_rejected_logps": rejected_logps}
        policy_outputs: list[Any] = []

        def forward(**kwargs: Any) -> Any:  # keeps the log-probabilities of TRL's only call
            policy_outputs.append(fused_log_probs(model, **kwargs))
            return policy_outputs[0]

        loss = super()._compute_loss(forward, inputs, return_outputs)
        ce = self._cross_entropy(policy_outputs[0].log_probs, inputs["completion_mask"][:, 1:])
        if self.ce.weight and self.ce.reduction != "token_mean":
            loss = loss + self.ce.weight * ce
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["loss/ce"].append(self.accelerator.gather(ce.detach()).mean().item())
        self._follow_lengths(mode, policy_outputs[0].log_probs, inputs)
        self.stop_unless_finite("loss", loss.detach())
        return loss

    def _follow_lengths(self, mode: str, log_probs: torch.Tensor, inputs: dict[str, Any]) -> None:
        """Log how margins correlate with the answers' lengths. Needs stored reference log-probabilities."""
        if "ref_chosen_logps" not in inputs:
            return
        chosen, rejected = log_probs.detach().sum(1).chunk(2)
        margins = (chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"])
        longer, shorter = inputs["completion_mask"].sum(1).chunk(2)
        pairs = self.accelerator.gather(torch.stack([margins, (longer - shorter).to(margins)], 1))
        if (r := self.lengths.add(*pairs.T.tolist())) is not None:
            self._metrics[mode]["rewards/length_correlation"] = [r]

    def _cross_entropy(self, log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """L_CE from (2·pairs, tokens) log-probabilities, 0 outside the mask; the chosen answers come first."""
        chosen = -log_probs.chunk(2)[0].sum(1)  # (pairs,): −log π(y_w|x)
        tokens = mask.chunk(2)[0].sum(1)  # (pairs,)
        match self.ce.reduction:
            case "token_mean":
                return chosen.sum() / tokens.sum()
            case "seq_mean":
                return (chosen / tokens).mean()
            case "sum":
                return chosen.mean()
