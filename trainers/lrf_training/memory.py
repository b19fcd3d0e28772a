"""An estimate of the memory that training takes on each GPU (docs/how-to/train-on-a-cluster.md). Imports no torch.

It leaves out what the allocator loses between blocks, the GPU's own context and buffers of communication: take 15 %
more. The preflight (``preflight: true``) then finds out on the longest row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.types import JSON

GIB = 2**30
ANSWER_TOKENS = 1024
"""Assumed of an answer."""
LIVE_PARAMETERS = 1_000_000_000
"""Weights that ZeRO-3 has gathered at a time (DeepSpeed's stage3_max_live_parameters)."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a Llama-like model decides its memory. ``window`` is the most tokens it was made for."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    window: int
    head: int = 128
    tied: bool = False

    @property
    def parameters(self) -> int:
        """Weights, without biases."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.layers * layer + self.hidden

    def adapters(self, rank: int) -> int:
        """Weights of LoRA adapters of all linear layers."""
        h, q, kv, i = self.hidden, self.heads * self.head, self.kv_heads * self.head, self.intermediate
        return self.layers * rank * ((h + q) * 2 + (h + kv) * 2 + (h + i) * 3)


_LLAMA_8B = ModelShape(4096, 32, 32, 8, 14336, 128256, 131072)
_GLM_9B = ModelShape(4096, 40, 32, 2, 13696, 151552, 131072)
KNOWN = {
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "zai-org/glm-4-9b-hf": _GLM_9B,
    "zai-org/glm-4-9b-chat-hf": _GLM_9B,
    "THUDM/glm-4-9b-hf": _GLM_9B,
    "THUDM/glm-4-9b-chat-hf": _GLM_9B,
}
"""Models of the recipes, which can be planned where their files are not."""


def shape_of(model: str | None) -> ModelShape | None:
    """By the config.json of a folder or of the hub's cache, else if it is known; None where nothing says."""
    if model is None:
        return None
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cached = home / "hub" / f"models--{model.replace('/', '--')}" / "snapshots"
    for folder in (Path(model), *sorted(cached.glob("*"))):
        try:
            return _shape(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return KNOWN.get(model)


def _shape(config: Mapping[str, Any]) -> ModelShape:
    heads = config["num_attention_heads"]
    return ModelShape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        window=config["max_position_embeddings"],
        head=config.get("head_dim") or config["hidden_size"] // heads,
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def estimate(settings: Any, model: str | None, world: int) -> dict[str, JSON]:
    """GiB on each GPU by what takes them, in bfloat16 arithmetic; ``longest`` is the longest sample, in tokens.

    ``settings`` are a :class:`lrf_training.settings.TrainingSettings`. Of a model whose shape nothing tells, the reason
    is given as ``unknown``.
    """
    shape = shape_of(model)
    if shape is None:
        return {"unknown": f"the shape of {model} is known once its config.json is here"}
    longest = min(settings.max_tokens or shape.window, shape.window)
    zero, offload, lora = settings.zero, settings.offload, getattr(settings, "lora", None)
    trained = shape.adapters(lora.rank) if lora else shape.parameters
    if zero:
        weights = 2.0 * shape.parameters / (world if zero == 3 else 1)
        gradients = 2.0 * trained / world
        optimizer = 12.0 * trained / world
    else:
        copies = 2.0 * trained  # autocast keeps bfloat16 copies of what is trained
        held = 2.0 * shape.parameters + 4.0 * trained if lora else 4.0 * shape.parameters
        weights, gradients, optimizer = held + copies, 4.0 * trained, 8.0 * trained
    if zero == 3:
        gathered = 2.0 * min(LIVE_PARAMETERS, shape.parameters)
        weights = (0.0 if offload == "all" else weights) + gathered
    if offload != "none":
        optimizer = 0.0

    rows = settings.micro_batch * settings.sequences_a_row
    tokens = rows * longest / settings.sequence_parallel
    width = 2.0 if zero or lora else 4.0  # float32 weights make float32 hidden states, autocast or not
    kept = width * tokens * shape.hidden * shape.layers  # a hidden state a layer; the rest is computed again
    if getattr(settings, "activation_offload", False):
        kept = 0.0
    layer = tokens * (width * 8 * shape.hidden + 2.0 * 3 * shape.intermediate)
    if not settings.gradient_checkpointing:
        kept, layer = layer * shape.layers, 0.0
    logits = 2 * 4.0 * settings.micro_batch * 2 * ANSWER_TOKENS * shape.vocab
    parts = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": kept,
        "layer_at_work": layer,
        "logits": logits,
    }
    gib = {name: round(n / GIB, 1) for name, n in parts.items()}
    return {"model": model, "longest": longest, "gib": gib, "gib_together": round(sum(parts.values()) / GIB, 1)}
