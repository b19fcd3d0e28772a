"""LoRA adapters: configured, saved by themselves or merged into the weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.settings import BasePolicySettings


def lora_config(settings: BasePolicySettings, model: Any) -> Any:
    """peft's configuration of new adapters for ``model``; None if the settings want none.

    Raises :class:`lrf.errors.StageError` if peft is missing or the model has none of the named modules.
    """
    lora = settings.lora
    if lora is None or lora.continue_adapters:
        return None
    if settings.init is not None and not lora.merge:
        raise StageError(
            "train.lora with train.init: adapters can't be used without their base model, and a random one isn't "
            "saved; set lora.merge: true"
        )
    try:
        from peft import LoraConfig
    except ImportError:
        raise StageError("train.lora needs the package peft: pip install 'lrf[lora]'") from None
    head = model.get_output_embeddings()  # hidden states go through it in parts, which an adapter on it wouldn't see
    heads = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is head}
    linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "in_features")}
    linear -= heads
    named = set(lora.target_modules) if lora.target_modules != "all-linear" else set()
    if of_head := ", ".join(sorted(named & heads)):
        raise StageError(
            f"train.lora.target_modules: {of_head} is the LM head, which can't have an adapter; the model has "
            f"{', '.join(sorted(linear))}"
        )
    if unknown := ", ".join(sorted(named - linear)):
        raise StageError(f"train.lora.target_modules: the model has no {unknown}; it has {', '.join(sorted(linear))}")
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def unwrap_peft(model: Any) -> Any:
    """The transformers model inside a peft model; any other model unchanged."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def save_merged(model: Any, folder: Path) -> None:
    """Save the model with its adapters merged into the weights, in float32. The model in memory doesn't change.

    Adapters are on modules, or (of a mixture's experts) on parameters of modules, several on one module.
    """
    from peft.tuners.lora import LoraLayer

    inner, state = unwrap_peft(model), dict[str, Any]()
    for name, parameter in inner.state_dict().items():
        if ".lora_" not in name and ".original_module." not in name:
            state[_plain_name(name)] = parameter.float().cpu()
    for name, module in inner.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            adapted = f"{_plain_name(f'{name}.')}{getattr(layer, 'parameter_name', 'weight')}"
            state[adapted] = state[adapted] + layer.get_delta_weight("default").detach().float().cpu()
    inner.save_pretrained(folder, state_dict=state)
    config = copy.deepcopy(inner.config)
    config.dtype = "float32"  # in memory the weights may be bfloat16
    config.save_pretrained(folder)


def _plain_name(name: str) -> str:
    """The name of a module or weight without peft's wrappers."""
    while ".base_layer." in name:
        name = name.replace(".base_layer.", ".")
    return name.replace(".modules_to_save.default.", ".")
