"""The loss: the mean over all answer tokens of an optimizer step, however it is shared among processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl import SFTTrainer

from lrf_training.sequence_parallel import IGNORE_INDEX, shard_batch
from lrf_training.trainer import CheckedTrainer


@dataclass(frozen=True, slots=True)
class SFTCollator:
    """Rows of ``input_ids`` and ``spans`` to a batch; where ``processes`` share a sequence, to this one's part.

    Padding comes after all tokens, which causal attention lets nobody see: there is no mask, and never one of S×S.
    Position ids go on through the padding, else kernels would take it for another sequence.
    """

    pad_token_id: int
    processes: int = 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-longest // self.processes) * self.processes
        ids = torch.full((len(rows), length), self.pad_token_id)  # (rows, length)
        labels = torch.full((len(rows), length), IGNORE_INDEX)  # (rows, length)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            spans = [int(place) for place in row["spans"]]
            for start, end in zip(spans[::2], spans[1::2], strict=True):
                labels[i, start:end] = ids[i, start:end]
        positions = torch.arange(length).expand(len(rows), -1).contiguous()  # (rows, length)
        batch = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return shard_batch(batch, self.processes) if self.processes > 1 else batch


class TokenMeanTrainer(CheckedTrainer, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's SFT trainer on rows that are token ids already.

    Every answer token of an optimizer step weighs the same, whatever micro-batch, process or, with sequence
    parallelism, part of a sequence it stands in. (Under sequence parallelism TRL takes means of micro-batches, so the
    loss would depend on how the batch is split.)
    """

    loss_is_scaled_for_ga = True

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The step's micro-batches, and how many answer tokens the step has in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        mine = sum((int(_targets(batch).ne(IGNORE_INDEX).sum()) for batch in batches), 0)
        return batches, self.accelerator.reduce(torch.tensor(mine, device=device), "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = num_items_in_batch
        if tokens is None:  # a pass outside a step: the preflight's
            tokens = _targets(inputs).ne(IGNORE_INDEX).sum().clamp(min=1)
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        # Gradients are averaged over the processes, each of which has its share of the tokens.
        loss = -outputs.log_probs.double().sum() / tokens * self.accelerator.num_processes
        self.stop_unless_finite("loss", loss.detach())
        return (loss, outputs) if return_outputs else loss


def _targets(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The labels, each at the place of the token that predicts it. Sequence parallelism has shifted them already."""
    return batch["shift_labels"] if "shift_labels" in batch else batch["labels"][:, 1:]
