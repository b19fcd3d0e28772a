"""The shape of a model: counted from a model of it on torch's meta device, which has no weights.

Counting takes transformers' import, so a process of its own does it (``python -m lrf_training.shape FOLDER``), and what
it found is kept in the user's cache folder: ``lrf plan`` imports no torch, and counts a model once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_VERSION = 1
"""Of the counting; another one counts anew."""

_LONGEST_S = 300
_ASIDE = ("gate.weight", "router.weight", "bias")
"""Weights of an MLP that no inner state comes from."""
_CONFIG = "config.json"


class UnknownShapeError(Exception):
    """The shape of a model can't be found out; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and time of a training depend on. Widths are in numbers a token and layer.

    Parameters
    ----------
    parameters: all weights.
    active: the layers' weights that a token goes through; fewer than all in a mixture of experts.
    hidden, layers, vocab: sizes; ``window`` is the longest sequence, ``max_position_embeddings``.
    query: outputs of the attention's query projection, ``keys`` those of keys and values together.
    inner: outputs of the MLP's first projections (of a gated one: gate and up), for all experts that a token goes
        through.
    ends: sum of inputs and outputs of all linear layers but the LM head, for LoRA's parameters: ``rank`` · ``ends``.
    head: weights of the LM head.
    largest: weights of the largest layer.
    plain: why prompts can't be shared (:mod:`lrf_training.prefix_sharing`); None if they can.
    """

    parameters: int
    active: int
    hidden: int
    layers: int
    vocab: int
    window: int
    query: int
    keys: int
    inner: int
    ends: int
    head: int
    largest: int
    plain: str | None = None

    def adapters(self, rank: int) -> int:
        """Number of parameters of LoRA adapters on all linear layers."""
        return rank * self.ends


_LLAMA_8B = ModelShape(
    parameters=8030261248, active=6979584000, hidden=4096, layers=32, vocab=128256, window=131072, query=4096,
    keys=2048, inner=28672, ends=2621440, head=525336576, largest=218112000,
)  # fmt: skip
_GLM_9B = ModelShape(
    parameters=9399951360, active=8158433280, hidden=4096, layers=40, vocab=151552, window=131072, query=4096,
    keys=512, inner=27392, ends=2974720, head=620756992, largest=203960832,
)  # fmt: skip
KNOWN = {
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "zai-org/glm-4-9b-hf": _GLM_9B,
    "zai-org/glm-4-9b-chat-hf": _GLM_9B,
    "THUDM/glm-4-9b-hf": _GLM_9B,
    "THUDM/glm-4-9b-chat-hf": _GLM_9B,
}
"""Models of the recipes, so that they can be planned without their files."""


def shape_of(model: str) -> ModelShape:
    """The shape of the model in a folder or in the hub's cache, else of :data:`KNOWN`.

    Raises :class:`UnknownShapeError` if there is no config.json, or transformers makes no model of it.
    """
    folder = _folder(model)
    if folder is None:
        if model in KNOWN:
            return KNOWN[model]
        raise UnknownShapeError(
            f"there is no config.json of {model}, neither in a folder of that name nor in the cache"
        )
    kept = _kept(folder)
    try:
        counted = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        counted = _counted(model, folder)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            new = kept.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(counted), encoding="utf-8")
            new.rename(kept)
        except OSError:  # it will be counted again
            pass
    return ModelShape(**counted)


def _folder(model: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cached = home / "hub" / f"models--{model.replace('/', '--')}" / "snapshots"
    folder = next((f for f in (Path(model), *sorted(cached.glob("*"))) if (f / _CONFIG).is_file()), None)
    if folder is not None:
        return folder
    try:  # adapters, which are merged into their model
        return _folder(json.loads((Path(model) / "adapter_config.json").read_text())["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _kept(folder: Path) -> Path:
    digest = hashlib.sha256((folder / _CONFIG).read_bytes())
    try:
        transformers = version("transformers")
    except PackageNotFoundError:
        transformers = "none"
    digest.update(f" {_VERSION} {transformers} {[field.name for field in fields(ModelShape)]}".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lrf" / "shapes" / f"{digest.hexdigest()[:32]}.json"


_RAISED = re.compile(r"[\w.]*(?:Error|Exception): ")
"""How the line of a traceback begins that says what was raised; its text may go on for several lines."""


def _counted(model: str, folder: Path) -> Any:
    command = [sys.executable, "-m", "lrf_training.shape", str(folder.absolute())]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_LONGEST_S)  # noqa: S603 - ours
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        reason = next((line for line in reversed(lines) if _RAISED.match(line)), lines[-1])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    raise UnknownShapeError(f"no model could be made of {model}'s config.json: {reason}; it takes the extra `train`")


def count(folder: str) -> ModelShape:
    """Count the model of a folder's config.json on the meta device. Raises what transformers raises."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return shape_of_model(model)


def shape_of_model(model: Any) -> ModelShape:
    """The shape of a transformers causal language model, on any device."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    config = model.config.get_text_config()
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if m is not head and hasattr(m, "in_features") and hasattr(m, "out_features")]
    parameters = sum(p.numel() for p in model.parameters())
    in_layers = sum(p.numel() for layer in layers for p in layer.parameters())
    experts = sum(_experts(layer) for layer in layers)
    total, used = _routing(config)
    last = layers[-1]  # the first layers of some mixtures are dense
    query, keys = _attention(config)
    return ModelShape(
        parameters=parameters,
        active=in_layers - experts + experts * used // total,
        hidden=config.hidden_size,
        layers=len(layers),
        vocab=config.vocab_size,
        window=getattr(config, "max_position_embeddings", 0) or 0,
        query=query,
        keys=keys,
        inner=_inner(last, config.hidden_size, used),
        ends=sum(m.in_features + m.out_features for m in linear),
        head=head.weight.numel(),
        largest=max(sum(p.numel() for p in layer.parameters()) for layer in layers),
        plain=_refusal(model),
    )


def _routing(config: Any) -> tuple[int, int]:
    """Experts of a layer, and how many of them a token goes through; (1, 1) for a dense model."""
    total = next((n for name in ("num_experts", "num_local_experts", "n_routed_experts")
                  if (n := getattr(config, name, None))), 1)  # fmt: skip
    return total, getattr(config, "num_experts_per_tok", None) or total


def _experts(layer: Any) -> int:
    """Weights of a layer's routed experts: three-dimensional tensors, or modules in a list."""
    return sum(p.numel() for name, p in layer.named_parameters() if ".experts." in name)


def _inner(layer: Any, hidden: int, used: int) -> int:
    """Outputs of the projections of a layer's MLP that hidden states go into, a token."""
    width = 0
    for name, parameter in layer.named_parameters():
        if "attn" in name or "attention" in name or parameter.dim() < 2 or name.endswith(_ASIDE):
            continue
        if name.rsplit(".", 2)[-1 if parameter.dim() == 3 else -2].startswith(("down", "dense_4h", "fc2", "c_proj")):
            continue
        outputs = parameter.numel() // hidden // (parameter.shape[0] if parameter.dim() == 3 else 1)
        width += outputs * (used if ".experts." in name and parameter.dim() == 3 else 1)
    return width


def _attention(config: Any) -> tuple[int, int]:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * size, 2 * (getattr(config, "num_key_value_heads", None) or heads) * size


def _refusal(model: Any) -> str | None:
    from lrf_training.architecture import unsupported

    return unsupported(model)


if __name__ == "__main__":
    print(json.dumps(asdict(count(sys.argv[1]))))
