"""The two losses, and batches for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from lrf.types import JSON
from lrf_training.trainer import CheckedTrainer


class DistillationTrainer(CheckedTrainer, Trainer):  # type: ignore[misc]  # transformers is not followed by mypy
    """A Trainer of a sequence classifier: on ratings where a batch has targets, else on preferences.

    Every rating, or every pair, of an optimizer step weighs the same, whatever micro-batch it stands in. ``output_info`` is
    asked, before each export, for what config.json says under ``lrf_reward``.
    """

    loss_is_scaled_for_ga = True
    output_info: Callable[[], dict[str, JSON]]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """The step's micro-batches, and how many ratings, or pairs, the step has."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(map(_count, batches))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        count = _count(inputs)
        targets = inputs.pop("targets", None)
        outputs = model(**inputs)
        mean = preference_loss(outputs.logits) if targets is None else rating_loss(outputs.logits, targets)
        loss = mean * count / (num_items_in_batch or count)
        self.stop_unless_finite("loss", loss.detach())
        return (loss, outputs) if return_outputs else loss

    def save_export(self) -> None:
        self.model.config.lrf_reward = self.output_info()
        super().save_export()


def _count(batch: Mapping[str, Any]) -> int:
    """Ratings of a batch; of one without targets, its pairs."""
    return int((~batch["targets"].isnan()).sum()) if "targets" in batch else len(batch["input_ids"]) // 2


def rating_loss(logits: Any, targets: Any) -> Any:
    """Mean squared error over the targets that are there. ``logits``, ``targets``: (rows, dimensions); NaN is none."""
    known = ~targets.isnan()
    return ((logits.float() - targets.nan_to_num()) ** 2)[known].mean()


def preference_loss(logits: Any) -> Any:
    """−log σ(chosen − rejected), the mean over the pairs (Bradley and Terry, 1952).

    ``logits``: (2 · pairs, 1), the chosen answers first.
    """
    chosen, rejected = logits.float().squeeze(-1).chunk(2)
    return -logsigmoid(chosen - rejected).mean()


class RewardCollator:
    """Rows to a batch, padded at the right: answers with their targets, or chosen answers and then rejected ones."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        columns = ("input_ids", "rejected_ids") if "rejected_ids" in rows[0] else ("input_ids",)
        ids = [torch.tensor(row[name]) for name in columns for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self._pad)  # (answers, longest)
        lengths = torch.tensor([len(one) for one in ids])
        mask = (torch.arange(padded.shape[1])[None] < lengths[:, None]).long()
        batch = {"input_ids": padded, "attention_mask": mask}
        if "targets" in rows[0]:
            batch["targets"] = torch.tensor([row["targets"] for row in rows])  # (rows, dimensions)
        return batch
