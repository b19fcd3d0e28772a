"""Prefix sharing: forward a prompt once for all of its answers.

A sample is one long prompt with several short answers, and stock trainers forward the prompt with each. Here a
micro-batch is one sequence without padding, [prompt, answer, answer, …, prompt, answer, …]: each prompt once, and equal
answers of a prompt once. An answer's position ids continue its prompt's, and attention is split: a prompt attends to
itself, an answer to its prompt and itself. No mask of length² is built, and only hidden states that predict answer
tokens reach the LM head. Log-probabilities and gradients equal those of the plain path.

:func:`share_prompts` makes the batch: the padded answers, as if they were sequences of their own, and the shared
sequence. A hook before the model's forward swaps the one for the other; a hook after the backbone picks the hidden
states that predict answer tokens. So the model returns what it would for the padded answers, and losses on top of it
needn't know. This applies to policy and reference policy alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface

from lrf_training.adapters import unwrap_peft
from lrf_training.sequence_parallel import gather_predicting_states, shard_inputs
from lrf_training.split_attention import answers_attention, prompt_attention
from lrf_training.tiling import fused_log_probs

Ids = tuple[int, ...]

NAME = "lrf_shared_prompt"
"""Name of the split attention in transformers' ``AttentionInterface``."""


@dataclass(frozen=True, slots=True)
class SharedLayout:
    """The parts of a shared sequence.

    Parameters
    ----------
    groups: lengths (prompt, (answer, answer, …)) for each prompt, in order.
    predicting: (answers, longest answer), the position of the hidden state that predicts each answer token; 0 where
        an answer has ended.
    """

    groups: tuple[tuple[int, tuple[int, ...]], ...]
    predicting: torch.Tensor


def share_prompts(sequences: Sequence[tuple[Sequence[int], Sequence[int]]], pad_token_id: int) -> dict[str, Any]:
    """A batch of (prompt, answer) pairs of token ids in which each prompt, and each answer of a prompt, is once.

    For the prompt [1, 2, 3] with the answers [4, 5] and [6]:

    >>> batch = share_prompts([([1, 2, 3], [4, 5]), ([1, 2, 3], [6])], pad_token_id=0)
    >>> batch["shared_ids"], batch["position_ids"]
    (tensor([[1, 2, 3, 4, 5, 6]]), tensor([[0, 1, 2, 3, 4, 3]]))
    >>> batch["layout"].groups, batch["layout"].predicting
    (((3, (2, 1)),), tensor([[2, 3],
            [2, 0]]))

    The loss gets the last prompt token with each answer, padded on the right, in the order of ``sequences``:

    >>> batch["input_ids"], batch["completion_mask"]
    (tensor([[3, 4, 5],
            [3, 6, 0]]), tensor([[0, 1, 1],
            [0, 1, 0]]))
    """
    answers: dict[Ids, dict[Ids, torch.Tensor]] = {}  # by prompt and answer: positions that predict it
    for prompt, answer in sequences:
        answers.setdefault(tuple(prompt), {})[tuple(answer)] = torch.empty(0)
    shared: list[int] = []
    positions: list[int] = []
    for ids, of_prompt in answers.items():
        last = len(shared) + len(ids) - 1
        shared += ids
        positions += range(len(ids))
        for each in of_prompt:
            of_prompt[each] = torch.tensor([last, *range(len(shared), len(shared) + len(each) - 1)])
            shared += each
            positions += range(len(ids), len(ids) + len(each))
    groups = tuple((len(ids), tuple(map(len, of_prompt))) for ids, of_prompt in answers.items())
    predicting = [answers[tuple(prompt)][tuple(answer)] for prompt, answer in sequences]
    seen = [torch.tensor([prompt[-1], *answer]) for prompt, answer in sequences]
    mask = pad_sequence([torch.ones_like(ids) for ids in seen], batch_first=True)
    mask_of_answers = mask.clone()
    mask_of_answers[:, 0] = 0
    return {
        "input_ids": pad_sequence(seen, batch_first=True, padding_value=pad_token_id),
        "attention_mask": mask,
        "completion_mask": mask_of_answers,
        "shared_ids": torch.tensor([shared]),
        "position_ids": torch.tensor([positions]),
        "layout": SharedLayout(groups, pad_sequence(predicting, batch_first=True)),
    }


def answer_outputs(model: Any, batch: Mapping[str, Any], **kwargs: Any) -> Any:
    """What a model with TRL's fused LM head (``trl.trainer.utils.add_fused_lm_head``) returns for a batch.

    Its ``log_probs`` are log π of each answer token, (answers, longest answer) with gradients, in nats; 0 where an
    answer has ended.

    Parameters
    ----------
    model: prepared by :class:`PrefixSharing` for a batch of :func:`share_prompts`.
    batch: on the model's device.
    kwargs: further arguments of the model.
    """
    inputs = {name: value for name, value in batch.items() if name != "completion_mask"}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    return fused_log_probs(model, **inputs, **kwargs, labels=labels, use_cache=False)


def answer_log_probs(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The ``log_probs`` of :func:`answer_outputs`."""
    log_probs: torch.Tensor = answer_outputs(model, batch).log_probs
    return log_probs


class PrefixSharing:
    """Makes a model (or peft model) accept batches of :func:`share_prompts`.

    It takes other inputs as before only while its config names another attention, as when it generates.

    ``group`` is the sequence-parallel process group while training (:mod:`lrf_training.sequence_parallel`), or None.
    The processes of a group must get the same batches.
    """

    def __init__(self, model: Any) -> None:
        self.group: Any = None
        inner = unwrap_peft(model)
        inner.set_attn_implementation(NAME)
        # on the outermost module: peft calls the inner model without its hooks
        model.register_forward_pre_hook(self._take_shared_sequence, with_kwargs=True)
        inner.base_model.register_forward_hook(self._keep_predicting_states, with_kwargs=True)

    def _take_shared_sequence(self, model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if "layout" not in kwargs:
            return args, kwargs
        kwargs = dict(kwargs)
        kwargs["input_ids"] = kwargs.pop("shared_ids")
        kwargs["shift_labels"] = kwargs.pop("labels")[:, 1:]  # TRL's fused LM head scores these without shifting
        del kwargs["attention_mask"]  # there is no padding
        if self.group is not None and model.training:
            kwargs = shard_inputs(kwargs, self.group)
        return args, kwargs

    def _keep_predicting_states(self, backbone: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> Any:
        layout: SharedLayout | None = kwargs.get("layout")
        if layout is None:
            return outputs
        # (1, sequence, hidden) -> (answers, longest answer, hidden)
        states = outputs.last_hidden_state
        where = layout.predicting.to(states.device)
        if self.group is not None and backbone.training:
            outputs.last_hidden_state = gather_predicting_states(states, where, self.group)
        else:
            outputs.last_hidden_state = states[0, where]
        return outputs


def split_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: SharedLayout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over the shared sequence.

    ``query`` is (1, heads, sequence, size); ``key`` and ``value`` may have fewer heads. Returns (1, sequence, heads,
    size) and no weights, as transformers' attention functions do.
    """
    # Under autocast, rotary embeddings turn query and key into float32; torch doesn't cast them with a causal bias.
    query, key = query.to(value.dtype), key.to(value.dtype)
    parts, start = [], 0
    for prompt, answers in layout.groups:
        end = start + prompt
        q, k, v = (t[:, :, start:end] for t in (query, key, value))
        parts.append(prompt_attention(q, k, v, scaling))  # (1, heads, prompt, size)
        start = end + sum(answers)
        if answers:
            own_q, own_k, own_v = (t[:, :, end:start] for t in (query, key, value))
            parts.append(answers_attention(own_q, k, v, own_k, own_v, answers, scaling))
    # (1, heads, part, size) each -> (1, sequence, heads, size)
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1), None


AttentionInterface.register(NAME, split_attention)
