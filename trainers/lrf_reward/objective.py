"""The losses of the reward trainer, and their data collator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from lrf.types import JSON
from lrf_training.trainer import CheckedTrainer


class DistillationTrainer(CheckedTrainer, Trainer):  # type: ignore[misc]  # transformers is not followed by mypy
    """A Trainer of a sequence classifier: on ratings if a batch has targets, else on preferences.

    Every rating (or pair) of an optimizer step has the same weight, in whatever micro-batch it is. ``output_info``
    returns what each export writes into config.json under ``lrf_reward``.
    """

    loss_is_scaled_for_ga = True
    output_info: Callable[[], dict[str, JSON]]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """The step's micro-batches, and the number of its ratings or pairs."""
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
    """Number of ratings in a batch; without targets, of pairs."""
    return int((~batch["targets"].isnan()).sum()) if "targets" in batch else len(batch["input_ids"]) // 2


def rating_loss(logits: Any, targets: Any) -> Any:
    """Mean squared error. ``logits`` and ``targets`` are (rows, dimensions); NaN targets don't count."""
    known = ~targets.isnan()
    return ((logits.float() - targets.nan_to_num()) ** 2)[known].mean()


def preference_loss(logits: Any) -> Any:
    """The mean of −log σ(chosen − rejected) over the pairs (Bradley and Terry, 1952).

    ``logits``: (2 · pairs, 1), the chosen answers first.
    """
    chosen, rejected = logits.float().squeeze(-1).chunk(2)
    return -logsigmoid(chosen - rejected).mean()


class RewardCollator:
    """Data collator: pads on the right; of pairs, the chosen answers come first.

    >>> RewardCollator(pad=0)([{"input_ids": [5, 6, 7], "targets": [0.4]}, {"input_ids": [8], "targets": [-1.0]}])
    {'input_ids': tensor([[5, 6, 7],
            [8, 0, 0]]), 'attention_mask': tensor([[1, 1, 1],
            [1, 0, 0]]), 'targets': tensor([[ 0.4000],
            [-1.0000]])}
    >>> RewardCollator(pad=0)([{"input_ids": [5, 6], "rejected_ids": [5, 7, 8]}])["input_ids"]
    tensor([[5, 6, 0],
            [5, 7, 8]])
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        columns = ("input_ids", "rejected_ids") if "rejected_ids" in rows[0] else ("input_ids",)
        ids = [torch.tensor(row[name]) for name in columns for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self._pad)  # (answers, longest)
        lengths = torch.tensor([len(one) for one in ids])
        mask = (torch.arange(padded.shape[1])[None] < lengths[:, None]).long()  # (answers, longest)
        batch = {"input_ids": padded, "attention_mask": mask}
        if "targets" in rows[0]:
            batch["targets"] = torch.tensor([row["targets"] for row in rows])  # (rows, dimensions)
        return batch
