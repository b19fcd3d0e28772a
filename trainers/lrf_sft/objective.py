"""The loss of SFT: the mean over all answer tokens of an optimizer step, over all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl import SFTTrainer

from lrf_sft.packing import positions
from lrf_training.evaluation import Sums
from lrf_training.prefix_sharing import SharedLayout
from lrf_training.sequence_parallel import IGNORE_INDEX, shard_batch
from lrf_training.tiling import fused_log_probs
from lrf_training.trainer import HeldOutTrainer


@dataclass(frozen=True, slots=True)
class SFTCollator:
    """Data collator for rows of ``input_ids``, ``spans`` (start and end of each answer) and ``ends``.

    Padding is on the right, where causal attention hides it, so there is no mask (and never one of length²). Position
    ids continue through the padding; otherwise attention kernels would take it for another packed sequence. If
    ``processes`` share a sequence, the batch is this process's part of it. With ``packed`` all rows of a batch are one
    sequence (:mod:`lrf_sft.packing`).

    >>> rows = [{"input_ids": [5, 6, 7], "spans": [1, 3]}, {"input_ids": [8, 9], "spans": [1, 2]}]
    >>> batch = SFTCollator(pad_token_id=0)(rows)
    >>> batch["input_ids"], batch["labels"]
    (tensor([[5, 6, 7],
            [8, 9, 0]]), tensor([[-100,    6,    7],
            [-100,    9, -100]]))
    >>> batch["position_ids"]
    tensor([[0, 1, 2],
            [0, 1, 2]])
    """

    pad_token_id: int
    processes: int = 1
    packed: bool = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.packed:
            return self._packed(rows)
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-longest // self.processes) * self.processes
        ids = torch.full((len(rows), length), self.pad_token_id)  # (rows, length)
        labels = torch.full((len(rows), length), IGNORE_INDEX)  # (rows, length)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            spans = [int(place) for place in row["spans"]]
            for start, end in zip(spans[::2], spans[1::2], strict=True):
                labels[i, start:end] = ids[i, start:end]
            ends = [int(number) for number in row.get("ends", ())]
            labels[i, ends[::2]] = torch.tensor(ends[1::2], dtype=torch.long)
        positions = torch.arange(length).expand(len(rows), -1).contiguous()  # (rows, length)
        batch = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return shard_batch(batch, self.processes) if self.processes > 1 else batch

    def _packed(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One sequence, (1, tokens), with the layout that keeps its rows apart."""
        one: dict[str, list[int]] = {"input_ids": [], "spans": [], "ends": [], "lengths": []}
        for row in rows:
            start = len(one["input_ids"])
            one["input_ids"] += row["input_ids"]
            one["spans"] += [int(place) + start for place in row["spans"]]
            one["ends"] += [int(number) + (0 if n % 2 else start) for n, number in enumerate(row.get("ends", ()))]
            one["lengths"] += [int(length) for length in row["lengths"]]
        if extra := -len(one["input_ids"]) % self.processes:
            one["input_ids"] += [self.pad_token_id] * extra
            one["lengths"].append(extra)
        batch = SFTCollator(self.pad_token_id)([one])
        batch["position_ids"] = torch.tensor([list(positions(one["lengths"]))])
        if self.processes > 1:
            batch = shard_batch(batch, self.processes)
        return {**batch, "layout": SharedLayout(tuple((length, ()) for length in one["lengths"]), torch.empty(0))}


class TokenMeanTrainer(HeldOutTrainer, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's SFT trainer for tokenised rows, with the mean over all answer tokens of an optimizer step.

    Every answer token has the same weight, in whatever micro-batch, process or part of a sequence it is. (Under
    sequence parallelism TRL takes means of micro-batches, so its loss depends on how the batch is split.)
    """

    loss_is_scaled_for_ga = True

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The step's micro-batches, and the number of its answer tokens in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        mine = sum((int(_targets(batch).ne(IGNORE_INDEX).sum()) for batch in batches), 0)
        return batches, self.accelerator.reduce(torch.tensor(mine, device=device), "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = num_items_in_batch
        if tokens is None:  # the preflight's pass, outside a step
            tokens = _targets(inputs).ne(IGNORE_INDEX).sum().clamp(min=1)
        outputs = fused_log_probs(model, **inputs, use_cache=False)
        # Gradients are averaged over the processes, so the sum of their losses is multiplied by their number.
        loss = -outputs.log_probs.double().sum() / tokens * self.accelerator.num_processes
        self.stop_unless_finite("loss", loss.detach())
        return (loss, outputs) if return_outputs else loss

    def sums(self, model: Any, batch: Any) -> Sums:
        """The negative log-probability of all answer tokens, and their number."""
        tokens = _targets(batch).ne(IGNORE_INDEX).sum()
        outputs = fused_log_probs(model, **batch, use_cache=False)
        return {"loss": (float(-outputs.log_probs.double().sum()), float(tokens))}


def _targets(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The labels, shifted to the tokens that predict them. Under sequence parallelism they are shifted already."""
    return batch["shift_labels"] if "shift_labels" in batch else batch["labels"][:, 1:]
