"""The test before the first step: does the longest prompt fit, with a group of answers as long as they may be?"""

from __future__ import annotations

from typing import Any

import torch

from lrf_training.preflight import Preflight, longest_row

ADVICE = (
    "What helps: gradient_checkpointing: true, lora, prefix_sharing: auto, micro_batch: 1, a smaller group or "
    "answer_tokens, more processes with zero: 3, or a smaller max_tokens"
)


class GroupPreflight(Preflight):
    """A :class:`lrf_training.preflight.Preflight` of prompts whose answers aren't written yet."""

    def _longest(self, trainer: Any) -> tuple[dict[str, Any], int]:
        row, _ = longest_row(trainer.train_dataset)
        return row, len(row["prompt"]) + trainer.num_generations * trainer.max_completion_length

    def _batch(self, trainer: Any, row: dict[str, Any]) -> Any:
        rows, words = trainer.args.per_device_train_batch_size, trainer.model.get_input_embeddings().num_embeddings
        prompts = torch.tensor([row["prompt"]]).repeat(rows, 1)
        prompts[:, 0] = (prompts[:, 0] + torch.arange(rows) // trainer.num_generations) % words  # else all are one
        answers = (torch.arange(rows)[:, None] % words).repeat(1, trainer.max_completion_length)
        trainer.current_gradient_accumulation_steps = 1
        batch = {
            "prompt_ids": prompts,
            "prompt_mask": torch.ones_like(prompts),
            "completion_ids": answers,
            "completion_mask": torch.ones_like(answers),
            "advantages": torch.zeros(rows),
            "ref_per_token_logps": torch.zeros(answers.shape),
            "importance_sampling_ratio": torch.ones(rows, 1),
            "num_items_in_batch": torch.tensor(answers.numel()),
            "loss_scale": torch.tensor(1.0),
        }
        return {name: value.to(trainer.accelerator.device) for name, value in batch.items()}
