"""Tiled MLPs and tiled log-probabilities: what a layer and the LM head hold at once, made small.

An MLP's inner states are several times as wide as the hidden states, and the logits of a vocabulary dozens of times.
Both depend on one token only, so a long sequence can go through them in parts (arXiv 2506.13996, section 3.1). Results
are the same but for rounding. The LM head's tiles are TRL's; MLPs are tiled here with torch's own checkpoints, under
which a weight's gradient is complete before DDP or DeepSpeed sees it, and which need neither a GPU nor a kernel of an
architecture's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lrf.errors import StageError
from lrf_training.adapters import unwrap_peft

_MLPS = ("mlp", "feed_forward", "block_sparse_moe", "ffn")
"""What architectures call the MLP of a layer."""


def fused_log_probs(model: Any, **inputs: Any) -> Any:
    """The outputs of a model with TRL's fused LM head (``add_fused_lm_head``), among them ``log_probs``.

    ``inputs`` are the model's, with ``labels``, (rows, tokens), or shifted ``shift_labels``; -100 is a token that isn't
    scored. The hidden states of scored tokens go through the LM head in tiles of 4,096 tokens × 32,768 words, and the
    others not at all. (Without a GPU, TRL alone would score every token.) ``log_probs`` has the labels' shape, shifted,
    in nats, and 0 where nothing is scored.
    """
    with _scored_tokens_only():
        return model(**inputs | {"fused_lm_head": True})


@contextmanager
def _scored_tokens_only() -> Iterator[None]:
    from trl.trainer import utils

    usual = utils._use_triton
    utils._use_triton = lambda device: (
        True
    )  # there, it chooses the tokens only; the tiles' kernels are chosen elsewhere
    try:
        yield
    finally:
        utils._use_triton = usual


def tile_mlps(model: Any, tiles: int) -> None:
    """Make every layer's MLP go through a sequence in ``tiles`` parts, one after the other; 1 changes nothing.

    The number of parts is the same for all lengths, since ZeRO-3 gathers weights in every call of a module, and all
    processes must make as many. Call it before the model is wrapped. Raises :class:`lrf.errors.StageError` for an
    architecture whose layers have no MLP of hidden states alone.
    """
    if tiles == 1:
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    inner = unwrap_peft(model)
    layers = [layer for layer in inner.base_model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    mlps: list[Any] = [next((getattr(layer, name) for name in _MLPS if hasattr(layer, name)), None) for layer in layers]
    if not mlps or not all(map(_takes_hidden_states_alone, mlps)):
        raise StageError(
            f"train.mlp_tiles: the layers of {inner.config.model_type} have no MLP that takes hidden states alone, so "
            "they can't be tiled; leave it out"
        )
    for mlp in mlps:
        mlp.forward = _tiled(mlp.forward, tiles, inner.config.model_type)


def _takes_hidden_states_alone(mlp: Any) -> bool:
    if mlp is None:
        return False
    parameters = inspect.signature(mlp.forward).parameters.values()
    return sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters) == 1


def _tiled(forward: Callable[[torch.Tensor], Any], tiles: int, architecture: str) -> Callable[[torch.Tensor], Any]:
    def tiled(states: torch.Tensor) -> torch.Tensor:  # (rows, tokens, hidden) -> the same
        parts = [checkpoint(forward, p.contiguous(), use_reentrant=False) for p in states.tensor_split(tiles, dim=1)]
        if not all(isinstance(part, torch.Tensor) for part in parts):
            raise StageError(
                f"train.mlp_tiles: the MLP of {architecture} returns more than hidden states, so it can't be tiled; "
                "leave it out"
            )
        return torch.cat(parts, dim=1)

    return tiled
