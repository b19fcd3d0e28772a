"""The losses of the reward trainer, and their data collator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from lrf.errors import StageError
from lrf.types import JSON
from lrf_training.adapters import unwrap_peft
from lrf_training.checkpoint import write_whole
from lrf_training.evaluation import Sums
from lrf_training.offloading import OffloadingTrainer
from lrf_training.preflight import is_out_of_memory
from lrf_training.processes import on_first_process
from lrf_training.trainer import HeldOutTrainer


class DistillationTrainer(OffloadingTrainer, HeldOutTrainer, Trainer):  # type: ignore[misc]  # no types
    """A Trainer of a sequence classifier: on ratings if a batch has targets, else on preferences.

    Every rating (or pair) of an optimizer step has the same weight, in whatever micro-batch or process it is.
    ``output_info`` evaluates the model, and returns what is in a checkpoint's config.json under ``lrf_reward``.
    """

    loss_is_scaled_for_ga = True
    output_info: Callable[[], dict[str, JSON]]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The step's micro-batches, and the number of its ratings or pairs in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        mine = torch.tensor(sum(map(_count, batches)), device=device)
        return batches, self.accelerator.reduce(mine, "sum")

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        count = _count(inputs)
        targets = inputs.pop("targets", None)
        outputs = model(**inputs)
        mean = _mean_loss(outputs.logits, targets)
        if num_items_in_batch is None:  # the preflight's pass, outside a step
            num_items_in_batch = count
        # Gradients are averaged over the processes, so the sum of their losses is multiplied by their number.
        loss = mean * count / num_items_in_batch * self.accelerator.num_processes
        self.stop_unless_finite("loss", loss.detach())
        return (loss, outputs) if return_outputs else loss

    def sums(self, model: Any, batch: Any) -> Sums:
        """The loss by ratings or pairs; of pairs also the share that is ranked rightly."""
        count, targets = _count(batch), batch.pop("targets", None)
        logits = model(**batch).logits
        figures = {"loss": (float(_mean_loss(logits, targets)) * count if count else 0.0, float(count))}
        if targets is None:
            chosen, rejected = logits.float().squeeze(-1).chunk(2)
            figures["rewards/accuracies"] = (float((chosen > rejected).sum()), float(count))
        return figures

    def export_to(self, folder: Path) -> None:
        """Save the model, then evaluate it: what was trained is safe before memory can run out again."""
        unwrap_peft(self.model).config.lrf_reward = None
        super().export_to(folder)
        try:
            info = self.output_info()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise StageError(
                f"{folder}: the reward model is saved, but memory ran out while it was evaluated, so its "
                "scale is not in it; lower micro_batch and run again, or use it with zero_at and ten_at"
            ) from error
        on_first_process(lambda: _add_to_config(folder / "config.json", info))


def _add_to_config(path: Path, info: dict[str, JSON]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    write_whole(path, json.dumps(config | {"lrf_reward": info}, indent=2, sort_keys=True) + "\n")


def _count(batch: Mapping[str, Any]) -> int:
    """Number of ratings in a batch; without targets, of pairs."""
    return int((~batch["targets"].isnan()).sum()) if "targets" in batch else len(batch["input_ids"]) // 2


def _mean_loss(logits: Any, targets: Any) -> Any:
    return preference_loss(logits) if targets is None else rating_loss(logits, targets)


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
