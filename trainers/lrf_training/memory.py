"""Estimated GPU memory of a training (docs/how-to/train-on-a-cluster.md). Imports no torch.

Not included: fragmentation of the allocator, the CUDA context and communication buffers; add 15 %. The preflight
(``preflight: true``) measures the longest row before the first step.
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
"""Assumed length of an answer."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 gathers at a time (DeepSpeed's stage3_max_live_parameters)."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a Llama-like model. ``window`` is ``max_position_embeddings``, ``head`` the size of a head."""

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
        """Number of parameters, without biases."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.layers * layer + self.hidden

    def adapters(self, rank: int) -> int:
        """Number of parameters of LoRA adapters on all linear layers."""
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
"""Models of the recipes, so that they can be planned without their files."""


def shape_of(model: str | None) -> ModelShape | None:
    """The shape in a folder's or the hub cache's config.json, else of :data:`KNOWN`; None if unknown."""
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
    """Estimated GiB on each GPU, by purpose, with bfloat16 compute.

    ``settings`` are a :class:`lrf_training.settings.TrainingSettings`. Returns ``longest``, the longest sample in
    tokens, ``gib`` by purpose and ``gib_together``; for a model of unknown shape only ``unknown``, the reason.
    """
    shape = shape_of(model)
    if shape is None:
        return {"unknown": f"the shape of {model} is unknown: its config.json is neither in a folder nor in the cache"}
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
    width = 2.0 if zero or lora else 4.0  # float32 weights give float32 hidden states, even under autocast
    kept = width * tokens * shape.hidden * shape.layers  # one hidden state a layer; the rest is recomputed
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
