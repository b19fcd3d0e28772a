"""The preference loss + λ·L_CE on a prompt's answers, on TRL's ``DPOTrainer``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import DPOConfig, DPOTrainer
from trl.models import prepare_deepspeed

from lrf_dpo.alarms import LengthCorrelation, Points
from lrf_dpo.batches import ListCollator, Lists, padded
from lrf_dpo.reference import tokens_hash
from lrf_dpo.sampler import PairSampler
from lrf_dpo.settings import CE
from lrf_training.evaluation import Sums
from lrf_training.list_losses import Loss, all_pairs, better
from lrf_training.prefix_sharing import PrefixSharing, answer_outputs
from lrf_training.sequence_parallel import sequence_group
from lrf_training.trainer import HeldOutTrainer


def sum_in_64_bits(model: Any, args: Any, outputs: Any) -> Any:
    """A forward hook: token log-probabilities in float64, so that their sums are.

    DPO takes small differences of sums of hundreds of terms. In float32 the order of summation alone changes loss and
    gradients by some 1e-5 (answers of 128 tokens).
    """
    outputs.log_probs = outputs.log_probs.double()
    return outputs


class DPOWithCETrainer(HeldOutTrainer, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's DPO trainer for tokenised prompts with two or more answers, with the cross-entropy term.

    Rows are those of :func:`lrf_dpo.rows.token_row`. TRL's loss, which takes two answers, is replaced; for two it is
    the same. With ``args.precompute_ref_log_probs``, the rows need the column of :mod:`lrf_dpo.reference` before
    ``train``; :meth:`reference_log_probs` computes it. Set ``sharing`` for sequence parallelism.

    Parameters
    ----------
    ce: the cross-entropy term.
    preference: the loss of each prompt's answers (:mod:`lrf_training.list_losses`); a micro-batch's is the mean over
        its prompts.
    margin: answers whose rewards differ by less aren't compared in accuracy and margins.
    prompts_together: put rows of one prompt into the same micro-batch.
    """

    sharing: PrefixSharing

    def __init__(
        self,
        *,
        ce: CE,
        args: DPOConfig,
        preference: Loss = all_pairs,
        margin: float = 0.0,
        prompts_together: bool = False,
        data_collator: Any = None,
        processing_class: Any,
        **kwargs: Any,
    ) -> None:
        self.ce, self.preference, self.margin, self.prompts_together = ce, preference, margin, prompts_together
        self.lengths = LengthCorrelation()
        data_collator = data_collator or ListCollator(padded, processing_class.pad_token_id)
        super().__init__(args=args, data_collator=data_collator, processing_class=processing_class, **kwargs)
        for model in filter(None, (self.model, self.ref_model)):
            model.register_forward_hook(sum_in_64_bits)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # tokenised already

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset  # computed by lrf_dpo.reference

    def _remove_unused_columns(self, dataset: Any, description: Any = None) -> Any:
        return dataset  # all are used

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

    def reference_log_probs(self, row: Mapping[str, Any]) -> list[float]:
        """log π_ref of each of a row's answers, in nats. Call it before the first step of training."""
        self.model.eval()
        batch = self._prepare_inputs(self.data_collator([row]))
        del batch["lists"]
        values: list[float] = self._under_reference(self._untrained, batch).tolist()
        return values

    @cached_property
    def _untrained(self) -> Any:
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(self.model, self.accelerator)
        return self.model.to(self.accelerator.device)

    def _under_reference(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """(answers,): TRL halves them, as if they were pairs."""
        return torch.cat(self.compute_ref_log_probs(model, batch))

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        loss, outputs, figures, compared = self._loss_and_figures(model, inputs)
        means = self.accelerator.gather(figures[None]).mean(0).tolist()
        for name, value in zip(_METRICS, means, strict=True):
            self._metrics["train"][name].append(value)
        if (r := self.lengths.add(gather_object(compared))) is not None:
            self._metrics["train"]["rewards/length_correlation"] = [r]
        self.stop_unless_finite("loss", loss.detach())
        return (loss, outputs) if return_outputs else loss

    def sums(self, model: Any, batch: Any) -> Sums:
        """The loss and TRL's figures, by prompts."""
        loss, _, figures, _ = self._loss_and_figures(model, batch)
        prompts = len(batch["lists"].lengths)
        means = {"loss": float(loss), **dict(zip(_METRICS, figures.tolist(), strict=True))}
        return {name: (mean * prompts, prompts) for name, mean in means.items()}

    def _loss_and_figures(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any, torch.Tensor, list[Points]]:
        """The loss, the model's outputs, the means of :data:`_METRICS`, and each prompt's answers compared."""
        batch = dict(inputs)
        lists: Lists = batch.pop("lists")
        outputs = answer_outputs(model, batch, **({"output_router_logits": True} if self.aux_loss_enabled else {}))
        mask = batch["completion_mask"][:, 1:]
        log_probs = outputs.log_probs  # (answers, tokens), 0 outside the mask
        if lists.reference is not None:
            reference = lists.reference.to(log_probs.device)
        else:
            reference = self._under_reference(self.ref_model or self.model, batch)
        implicit = self.beta * (log_probs.sum(1) - reference)  # (answers,)
        rewards = lists.rewards.to(log_probs.device)
        of_prompts = [self.preference(i, r) for i, r in zip(lists.split(implicit), lists.split(rewards), strict=True)]
        best = lists.best.to(log_probs.device)
        ce = self._cross_entropy(log_probs[best], mask[best])
        loss = torch.stack(of_prompts).mean() + self.ce.weight * ce
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        of_answers = implicit.detach(), rewards, log_probs.detach().sum(1), mask.sum(1)
        return loss, outputs, *self._figures(lists, *of_answers, ce=ce.detach())

    def _figures(self, lists: Lists, *of_answers: torch.Tensor, ce: torch.Tensor) -> tuple[torch.Tensor, list[Points]]:
        """TRL's metrics: chosen is a prompt's best answer, rejected its worst, a margin one of each pair compared.

        ``of_answers`` are (answers,): implicit rewards, rewards, log-probabilities and lengths.
        """
        figures, compared = [], list[Points]()
        for parts in zip(*map(lists.split, of_answers), strict=True):
            mine, scored, logps, tokens = parts
            pairs = better(scored, self.margin)
            margins = (mine[:, None] - mine[None])[pairs]
            longer = (tokens[:, None] - tokens[None])[pairs]
            high, low = scored.argmax(), scored.argmin()
            ends = torch.stack([mine[high], mine[low], logps[high], logps[low]])
            of_pairs = torch.stack([(margins > 0).to(margins).mean(), margins.mean()])
            figures.append(torch.cat([ends, of_pairs, ce.to(ends)[None]]))
            compared.append(list(zip(margins.tolist(), longer.tolist(), strict=True)))
        return torch.stack(figures).mean(0), compared

    def _cross_entropy(self, log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """L_CE of the best answers, from (prompts, tokens) log-probabilities, 0 outside the mask."""
        of_answers = -log_probs.sum(1)  # (prompts,): −log π(y_w|x)
        tokens = mask.sum(1)  # (prompts,)
        match self.ce.reduction:
            case "token_mean":
                return of_answers.sum() / tokens.sum()
            case "seq_mean":
                return (of_answers / tokens).mean()
            case "sum":
                return of_answers.mean()


_METRICS = (
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "loss/ce",
)
