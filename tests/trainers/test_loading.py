"""Checkpoints that a trainer must not start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GlmConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    Qwen2Config,
)

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_reward.model import new_classifier
from lrf_reward.settings import RewardSettings
from lrf_training.models import load_model, new_tokenizer
from lrf_training.settings import Init

SIZES: dict[str, Any] = {
    **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1},
}
CONFIGS = {
    "glm": GlmConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4),
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES),
    "qwen2 with tied embeddings": Qwen2Config(**SIZES, tie_word_embeddings=True),
}

Weights = dict[str, torch.Tensor]


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: w for name, w in weights.items() if not any(part in name for part in parts)}


def checkpoint(folder: Path, config: Any, change: Callable[[Weights], Weights] = without()) -> TrainingJob:
    """A job that starts from a tiny random model with changed weights."""
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return TrainingJob(folder / "pairs.jsonl", folder / "out", model=str(folder), seed=1, prompt_template_sha256="")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_complete_checkpoint_is_loaded_whatever_its_architecture(config: Any, tmp_path: Path) -> None:
    assert load_model(checkpoint(tmp_path, config), torch.float32).num_parameters() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("lm_head"), r"1 missing \(lm_head.weight\)"),
        (without("layers.1."), r"9 missing \(model.layers.1.input_layernorm.weight, .*, …\)"),
        (lambda w: w | {"model.extra.weight": torch.zeros(2)}, r"1 not of this model \(model.extra.weight\)"),
    ],
    ids=["no head", "no second layer", "a weight too many"],
)
def test_a_checkpoint_with_other_weights_is_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=message):
        load_model(checkpoint(tmp_path, CONFIGS["llama"], change), torch.float32)


def test_a_reward_model_is_refused_as_a_policy(tmp_path: Path) -> None:
    job = checkpoint(tmp_path, CONFIGS["llama"])
    LlamaForSequenceClassification(CONFIGS["llama"]).save_pretrained(tmp_path)
    with pytest.raises(StageError, match=r"1 missing \(lm_head.weight\); 1 not of this model \(score.weight\)"):
        load_model(job, torch.float32)


def classifier(job: TrainingJob) -> Any:
    return new_classifier(job, RewardSettings(), new_tokenizer(["x"], Init(vocab=300)), ("helpfulness",), 8, 9)


def test_a_reward_model_starts_with_a_new_head_and_says_so(tmp_path: Path) -> None:
    reports: list[Any] = []
    job = checkpoint(tmp_path, CONFIGS["llama"])
    object.__setattr__(job, "report", reports.append)
    assert classifier(job).score.out_features == 1
    assert reports == [{"note": f"score.weight: not in {tmp_path}, so it starts from random weights"}]


def test_a_reward_model_does_not_start_from_a_body_with_a_missing_layer(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"9 missing \(model.layers.1"):
        classifier(checkpoint(tmp_path, CONFIGS["llama"], without("layers.1.")))
