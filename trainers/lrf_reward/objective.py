"""The two losses, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from lrf_training.trainer import Guarded


class Distil(Guarded, Trainer):  # type: ignore[misc]  # transformers is not followed by mypy
    """A Trainer of a sequence classifier: on ratings where a batch has targets, else on preferences."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        targets = inputs.pop("targets", None)
        outputs = model(**inputs)
        loss = preference_loss(outputs.logits) if targets is None else rating_loss(outputs.logits, targets)
        return (loss, outputs) if return_outputs else loss


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


class Collator:
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
