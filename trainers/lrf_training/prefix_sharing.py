"""Prefix sharing: forward a prompt once for all of its answers.

A pair is one long prompt with two short answers, and stock DPO forwards the prompt twice. Here a micro-batch is one
sequence without padding, [prompt, chosen, rejected, prompt, chosen, rejected, …]. Pairs of one prompt share the prompt
and any equal answers: [prompt, a1, a2, a3, …]. Each answer's position ids continue its prompt's, and attention is
split: a prompt attends to itself, an answer to its prompt and itself. No mask of length² is built, and only hidden
states that predict answer tokens reach the LM head. Loss and gradients equal those of the plain path.

TRL's loss is unchanged. The collator returns the padded answers, on which TRL computes its loss, and the shared
sequence; a hook before the model's forward swaps the one for the other; a hook after the backbone picks the hidden
states that predict answer tokens. This applies to policy and reference policy alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from lrf_training.adapters import unwrap_peft
from lrf_training.sequence_parallel import gather_predicting_states, shard_inputs

Ids = tuple[int, ...]

_ANSWERS = ("chosen_ids", "rejected_ids")

NAME = "lrf_shared_prompt"
"""Name of the split attention in transformers' ``AttentionInterface``."""

TESTED = ("glm", "glm4", "llama", "qwen2", "qwen3")
"""Architectures (``model_type``) for which tests compare loss and gradients with the plain path."""


def unsupported(model: Any) -> str | None:
    """Why this model doesn't support prefix sharing, or None if it does."""
    config = model.config
    if config.model_type not in TESTED:
        return f"{config.model_type} is not among the architectures tested with it ({', '.join(TESTED)})"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "some of the model's layers attend to a sliding window"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "the model attends to a sliding window"
    if getattr(config, "attention_dropout", 0):
        return "the model drops attention weights while it trains"
    return None


@dataclass(frozen=True, slots=True)
class SharedLayout:
    """The parts of a shared sequence.

    Parameters
    ----------
    groups: lengths (prompt, (answer, answer, …)) for each prompt, in order.
    predicting: (2·pairs, longest answer), the position of the hidden state that predicts each answer token; the chosen
        answers come first, padding is 0.
    """

    groups: tuple[tuple[int, tuple[int, ...]], ...]
    predicting: torch.Tensor


class SharedPromptCollator:
    """Data collator for rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.

    For one row with the prompt [1, 2, 3], chosen [4, 5] and rejected [6]:

    >>> row = {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6]}
    >>> batch = SharedPromptCollator(pad_token_id=0)([row])
    >>> batch["shared_ids"], batch["position_ids"]
    (tensor([[1, 2, 3, 4, 5, 6]]), tensor([[0, 1, 2, 3, 4, 3]]))
    >>> batch["layout"].groups, batch["layout"].predicting
    (((3, (2, 1)),), tensor([[2, 3],
            [2, 0]]))

    TRL gets the last prompt token with each answer, padded on the right:

    >>> batch["input_ids"], batch["completion_mask"]
    (tensor([[3, 4, 5],
            [3, 6, 0]]), tensor([[0, 1, 1],
            [0, 1, 0]]))
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        answers: dict[Ids, dict[Ids, torch.Tensor]] = {}  # by prompt and answer: positions that predict it
        for row in rows:
            for name in _ANSWERS:
                answers.setdefault(tuple(row["prompt_ids"]), {})[tuple(row[name])] = torch.empty(0)
        shared: list[int] = []
        positions: list[int] = []
        for prompt, of_prompt in answers.items():
            last = len(shared) + len(prompt) - 1
            shared += prompt
            positions += range(len(prompt))
            for answer in of_prompt:
                of_prompt[answer] = torch.tensor([last, *range(len(shared), len(shared) + len(answer) - 1)])
                shared += answer
                positions += range(len(prompt), len(prompt) + len(answer))
        groups = tuple((len(prompt), tuple(map(len, of_prompt))) for prompt, of_prompt in answers.items())
        predicting = [answers[tuple(row["prompt_ids"])][tuple(row[name])] for name in _ANSWERS for row in rows]
        seen = [torch.tensor([row["prompt_ids"][-1], *row[name]]) for name in _ANSWERS for row in rows]
        mask = pad_sequence([torch.ones_like(ids) for ids in seen], batch_first=True)
        mask_of_answers = mask.clone()
        mask_of_answers[:, 0] = 0
        return {
            "input_ids": pad_sequence(seen, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": mask,
            "completion_mask": mask_of_answers,
            "shared_ids": torch.tensor([shared]),
            "position_ids": torch.tensor([positions]),
            "layout": SharedLayout(groups, pad_sequence(predicting, batch_first=True)),
        }


class PrefixSharing:
    """Makes a model (or peft model) accept batches of :class:`SharedPromptCollator`, and only those.

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
        kwargs = dict(kwargs)
        kwargs["input_ids"] = kwargs.pop("shared_ids")
        kwargs["shift_labels"] = kwargs.pop("labels")[:, 1:]  # TRL's fused LM head scores these without shifting
        del kwargs["attention_mask"]  # there is no padding
        if self.group is not None and model.training:
            kwargs = shard_inputs(kwargs, self.group)
        return args, kwargs

    def _keep_predicting_states(self, backbone: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> Any:
        layout: SharedLayout = kwargs["layout"]
        # (1, sequence, hidden) -> (2·pairs, longest answer, hidden)
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
        parts.append(_causal(q, k, v, scaling))  # (1, heads, prompt, size)
        for length in answers:
            span = slice(end, end + length)
            # the prompt's keys and values are copied for each answer: recomputed in the backward pass, not kept
            parts.append(
                checkpoint(
                    _answer, query[:, :, span], k, v, key[:, :, span], value[:, :, span], scaling, use_reentrant=False
                )
            )
            end += length
        start = end
    # (1, heads, part, size) each -> (1, sequence, heads, size)
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1), None


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float | None) -> torch.Tensor:
    if q.is_cuda and q.dtype == torch.float32:  # no flash kernel; others build length² if heads differ
        k, v = _repeat_kv(q, k, v)
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])


def _answer(
    q: torch.Tensor,
    prompt_k: torch.Tensor,
    prompt_v: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """q attends to the whole prompt and, causally, to its own answer: a lower-right causal mask."""
    k, v = torch.cat((prompt_k, k), dim=2), torch.cat((prompt_v, v), dim=2)
    k, v = _repeat_kv(q, k, v)
    # q: (1, heads, answer, size); k, v: (1, heads, prompt + answer, size)
    return scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(q.shape[2], k.shape[2]), scale=scaling)


def _repeat_kv(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    groups = q.shape[1] // k.shape[1]
    return (k, v) if groups == 1 else (k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1))


AttentionInterface.register(NAME, split_attention)
