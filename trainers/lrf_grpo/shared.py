"""Log-probabilities of groups of answers, with each prompt forwarded once for its group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lrf_training.adapters import unwrap_peft
from lrf_training.prefix_sharing import NAME, PrefixSharing, share_prompts
from lrf_training.tiling import fused_log_probs


class SharedGroups:
    """Forwards padded prompts and answers as TRL lays them out, by :mod:`lrf_training.prefix_sharing`."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def prepare(self, model: Any) -> None:
        """Make a model with TRL's fused LM head share prompts, before it is wrapped."""
        PrefixSharing(model)

    @contextmanager
    def off(self, model: Any) -> Iterator[None]:
        """Within it the model attends as usual: while it writes answers."""
        config = unwrap_peft(model).config
        config._attn_implementation = "sdpa"
        try:
            yield
        finally:
            config._attn_implementation = NAME

    def __call__(self, model: Any, input_ids: Any, attention_mask: Any, answer_length: int, aux_loss: bool) -> Any:
        """TRL's outputs of the answers' tokens: ``log_probs`` and ``entropy`` (rows, answer_length), 0 at padding.

        ``input_ids`` and ``attention_mask`` are (rows, prompt + answer_length), prompts padded on the left. Rows whose
        answer is masked as a whole are not forwarded.
        """
        prompt_length = input_ids.shape[1] - answer_length
        rows, sequences = [], []
        for number, (ids, mask) in enumerate(zip(input_ids, attention_mask.bool(), strict=True)):
            if mask[prompt_length:].any():
                rows.append(number)
                parts = ids[:prompt_length][mask[:prompt_length]], ids[prompt_length:][mask[prompt_length:]]
                sequences.append((parts[0].tolist(), parts[1].tolist()))
        if not rows:  # a process with nothing to learn from forwards something all the same, as the others wait for it
            return self._nothing(model, input_ids, attention_mask, answer_length, aux_loss)
        batch = share_prompts(sequences, self.pad_token_id)
        inputs = {name: _on(value, input_ids.device) for name, value in batch.items() if name != "completion_mask"}
        labels = inputs["input_ids"].masked_fill(_on(batch["completion_mask"], input_ids.device) == 0, -100)
        more = {"output_router_logits": True} if aux_loss else {}
        outputs = fused_log_probs(model, **inputs, labels=labels, use_cache=False, **more)
        where = torch.tensor(rows, device=input_ids.device)
        for name in ("log_probs", "entropy"):
            if (values := getattr(outputs, name)) is not None:
                wide = values.new_zeros(len(input_ids), answer_length)
                padded = torch.nn.functional.pad(values, (0, answer_length - values.shape[1]))
                setattr(outputs, name, wide.index_copy(0, where, padded))
        return outputs

    def _nothing(self, model: Any, input_ids: Any, attention_mask: Any, answer_length: int, aux_loss: bool) -> Any:
        mask = attention_mask.clone()
        mask[:1, -answer_length] = 1
        outputs = self(model, input_ids, mask, answer_length, aux_loss)
        for name in ("log_probs", "entropy"):
            if (values := getattr(outputs, name)) is not None:
                setattr(outputs, name, values * 0)
        return outputs


def _on(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
