"""For which architectures prompts can be shared: as their configs say, and as a trial on a small copy finds."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_dpo.settings import DPOSettings
from lrf_sft.settings import SFTSettings
from lrf_training import architecture
from lrf_training.architecture import not_for_sequence_parallelism, not_plain
from lrf_training.models import new_tokenizer, prepare_model, prepare_tokenizer, window_of
from lrf_training.settings import Init
from lrf_training.tokens import TokenCounts

SIZES: dict[str, Any] = {
    **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
}
LATENT = {"num_key_value_heads": 4, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "kv_lora_rank": 8}
LATENT |= {"q_lora_rank": 8, "n_group": 1, "topk_group": 1}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 1e4}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "rope_theta": 1e4}
WINDOWED = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}

PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with llama3's RoPE": ("llama", {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 64}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "phi3": ("phi3", {}),
    "gemma": ("gemma", {"head_dim": 8}),
    "mixtral": ("mixtral", {}),
    "deepseek_v3": ("deepseek_v3", LATENT),
    "gpt2": ("gpt2", {"attn_pdrop": 0.0}),
}
MORE_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {})
    for name in [
        "qwen2",
        "qwen3",
        "glm",
        "glm4",
        "olmo",
        "olmo2",
        "granite",
        "cohere",
        "starcoder2",
        "gpt_neox",
        "qwen3_moe",
        "glm4_moe",
        "smollm3",
        "phi",
        "persimmon",
        "ernie4_5",
        "apertus",
        "granitemoe",
        "bitnet",
        "arcee",
        "helium",
        "ministral3",
        "minimax_m2",
        *("nanochat", "internlm3", "ernie4_5_moe", "flex_olmo"),
    ]
} | {
    "exaone4": ("exaone4", {"layer_types": ["full_attention"] * 2}),
    "gptj": ("gptj", {"rotary_dim": 8}),
    "seed_oss": ("seed_oss", {"attention_dropout": 0.0, "residual_dropout": 0.0}),
    "youtu": ("youtu", LATENT),
    "minicpm3": ("minicpm3", LATENT),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {"head_dim": 8}),  # its config has no default
    "qwen3 with YaRN": ("qwen3", {"rope_parameters": YARN}),
}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "mistral": ("mistral", {"sliding_window": 16}, r"sliding window \(sliding_window: 16\)"),
    "qwen2": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        "sliding window of 16",
    ),
    "gemma2": ("gemma2", {}, "sliding window of 4096"),
    "gemma3": ("gemma3_text", {"sliding_window": 16}, "sliding window of 16"),
    "llama4": ("llama4_text", {}, "attend to chunks of 8192"),
    "gpt-oss": ("gpt_oss", {"layer_types": ["full_attention"] * 2}, "has sinks"),
    "gpt_neo": ("gpt_neo", {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}, "window_size: 256"),
    "mpt": ("mpt", {}, "ALiBi"),
    "bloom": ("bloom", {}, "bloom can't be replaced"),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, "can't be replaced"),
    "nemotron": ("nemotron", {}, "passes nothing on"),
    "mamba": ("mamba", {}, "are linear_attention"),
    "qwen3_next": ("qwen3_next", {}, "are linear_attention"),
    "rwkv": ("rwkv", {}, "are recurrent"),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}, "are conv"),
    "stablelm": ("stablelm", {}, "can't be replaced"),
    "phi3 with longrope": (
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64},
        r"beyond 64 tokens \(rope_type: longrope\)",
    ),
    "llama with dynamic RoPE": ("llama", {"rope_parameters": DYNAMIC}, "beyond 256 tokens"),
    "gpt2": ("gpt2", {}, "drops attention weights"),
    "llama": ("llama", {"attention_dropout": 0.1}, "drops attention weights"),
    "phimoe": ("phimoe", {}, "draws at random while it trains .*router_jitter_noise"),
    "seed_oss": ("seed_oss", {"attention_dropout": 0.0}, r"draws at random .*\(residual_dropout: 0.1\)"),
    "mixtral with jitter": ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise: 0.1"),
    "t5": ("t5", {}, "has an encoder"),
}


def config(kind: str, changes: dict[str, Any]) -> Any:
    sizes = {name: value for name, value in SIZES.items() if kind not in ("gpt_neo", "t5") or "num_" not in name}
    return AutoConfig.for_model(kind, **sizes | changes)


@pytest.mark.parametrize("name", [*PLAIN, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_PLAIN)])
def test_every_architecture_with_plain_causal_attention_shares_prompts(name: str) -> None:
    assert not_plain(config(*(PLAIN | MORE_PLAIN)[name])) is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_beyond_it_is_refused_by_name(name: str) -> None:
    kind, changes, reason = REFUSED[name]
    assert re.search(reason, str(not_plain(config(kind, changes))))


@pytest.mark.parametrize(
    ("kind", "changes", "longest"),
    [
        ("mistral", {"sliding_window": 4096}, 4096),
        ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64}, 64),
    ],
)
def test_a_window_that_no_row_fills_makes_no_difference(kind: str, changes: Any, longest: int) -> None:
    assert not_plain(config(kind, changes), longest) is None
    assert not_plain(config(kind, changes), longest + 1) is not None


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {"sliding_window": 4096}),
        ("qwen2", WINDOWED),
        ("phi3", {"rope_parameters": LONGROPE}),
        ("llama", {"rope_parameters": DYNAMIC}),
    ],
)
def test_what_a_config_does_not_say_is_found_by_the_trial(
    kind: str, changes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architecture, "_named", lambda config, longest: iter(()))
    assert "sharing changes losses by" in str(not_plain(config(kind, changes)))


def test_a_trial_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    original = config("qwen3", {"rope_parameters": YARN, "layer_types": ["full_attention"] * 2})
    saved = original.to_json_string()
    not_plain(original)
    assert torch.equal(torch.get_rng_state(), before)
    assert original.to_json_string() == saved


@pytest.mark.parametrize(
    ("kind", "changes", "processes", "reason"),
    [
        ("llama", {}, 2, None),
        ("llama", {}, 4, None),
        ("llama", {}, 3, "3 processes must divide the model's 4 attention heads"),
        ("gpt2", {"num_key_value_heads": None}, 2, "num_key_value_heads"),
        ("deepseek_v3", LATENT, 2, "differ in size"),
    ],
)
def test_heads_that_processes_cant_share_are_refused(kind: str, changes: Any, processes: int, reason: Any) -> None:
    refusal = not_for_sequence_parallelism(config(kind, changes), processes)
    assert (refusal is None) if reason is None else (reason in str(refusal))


def job_without_weights(folder: Path, kind: str, changes: dict[str, Any]) -> TrainingJob:
    config(kind, changes).save_pretrained(folder)
    return TrainingJob(folder / "pairs.jsonl", folder / "out", str(folder), 1, "")


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("mistral", {"sliding_window": 16}, "sliding window"),
        ("gemma3_text", {"sliding_window": 16}, "sliding window of 16"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "caps attention's logits"),
        ("bloom", {}, "can't be replaced"),
        ("mpt", {}, "ALiBi"),
        ("gpt_oss", {}, "has sinks"),
        ("gpt2", {"attn_pdrop": 0.0, "num_key_value_heads": None}, "num_key_value_heads"),
    ],
)
def test_sequence_parallelism_is_refused_before_weights_are_loaded(
    kind: str, changes: Any, reason: str, tmp_path: Path
) -> None:
    job = job_without_weights(tmp_path, kind, changes)
    settings = SFTSettings.model_validate({"own_weight": 1, "zero": 3, "sequence_parallel": 2})
    with pytest.raises(StageError, match=rf"train.sequence_parallel: 2 (works|can't).*({reason})"):
        prepare_model(job, settings, SimpleNamespace(), TokenCounts(longest=128), bfloat16=False)


def test_a_model_that_cant_compute_activations_again_is_refused_before_weights_are_loaded(tmp_path: Path) -> None:
    job = job_without_weights(tmp_path, "jetmoe", {"num_layers": 2, "kv_channels": 8})
    with pytest.raises(StageError, match=r"gradient_checkpointing: transformers' JetMoeForCausalLM can't"):
        prepare_model(job, DPOSettings(), SimpleNamespace(), TokenCounts(longest=128), bfloat16=False)


@pytest.mark.parametrize(
    ("module", "reason"), [("lm_head", "lm_head is the LM head"), ("wq", "the model has no wq; it has down_proj, ")]
)
def test_adapters_that_cant_be_are_refused_before_weights_are_loaded(module: str, reason: str, tmp_path: Path) -> None:
    job = job_without_weights(tmp_path, "llama", {})
    settings = DPOSettings.model_validate({"lora": {"target_modules": [module]}})
    with pytest.raises(StageError, match=reason) as refusal:
        prepare_model(job, settings, SimpleNamespace(), TokenCounts(longest=128), bfloat16=False)
    assert "lm_head" not in str(refusal.value).partition("has ")[2]


@pytest.mark.parametrize(
    ("kind", "changes", "window"),
    [
        ("llama", {}, 256),
        ("llama", {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 64}}, 256),
        ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64}, 256),
        ("qwen3", {"rope_parameters": YARN | {"original_max_position_embeddings": 256}}, 1024),
        ("qwen3", {"rope_parameters": YARN}, 256),
        ("llama", {"rope_parameters": DYNAMIC}, 1024),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, 512),
        ("gpt2", {}, 256),
        ("bloom", {"max_position_embeddings": None}, None),
    ],
)
def test_the_window_is_the_one_that_rope_extends(kind: str, changes: Any, window: int | None) -> None:
    assert window_of(config(kind, changes)) == window


def test_a_config_within_a_config_is_read() -> None:
    nested = AutoConfig.for_model("gemma3", text_config=config("gemma3_text", {"sliding_window": 16}).to_dict())
    assert window_of(nested) == 256
    assert "sliding window of 16" in str(not_plain(nested))


@pytest.mark.parametrize(
    ("kind", "changes", "outcome"),
    [
        ("llama", {}, (512, "train.window: 512 is more than the 256 tokens that")),
        ("qwen3", {"rope_parameters": YARN | {"original_max_position_embeddings": 256}}, (512, "None")),
        ("gpt2", {}, "has learned positions for 256 tokens only"),
    ],
)
def test_another_window_is_taken_with_a_warning_if_positions_can_be(
    kind: str, changes: Any, outcome: Any, tmp_path: Path
) -> None:
    job = job_without_weights(tmp_path, kind, changes)
    new_tokenizer(["x"], Init(vocab=300)).save_pretrained(tmp_path)
    settings = SFTSettings.model_validate({"own_weight": 1, "window": 512})
    if isinstance(outcome, str):
        with pytest.raises(StageError, match=outcome):
            prepare_tokenizer(job, settings, [])
        return
    ready = prepare_tokenizer(job, settings, [])
    assert ready.window == outcome[0]
    assert str(ready.warning).startswith(outcome[1])
