"""Estimated memory and time: beside published figures, by a model's own shape, and what would fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lrf_dpo.settings import DPOSettings
from lrf_sft.settings import SFTSettings
from lrf_training import shape
from lrf_training.forecast import flops_a_row, forecast
from lrf_training.memory import BUCKET, LIVE_PARAMETERS, Pass, estimate
from lrf_training.shape import KNOWN, ModelShape, count, shape_of

LLAMA = "meta-llama/Llama-3.1-8B"
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        **{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
        **{
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
        },
    },
    "glm-4-9b": {
        **{"model_type": "glm", "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40},
        **{
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "vocab_size": 151552,
            "max_position_embeddings": 131072,
        },
        **{"head_dim": 128, "attention_bias": True},
    },
    "qwen3-8b": {
        **{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960},
        "head_dim": 128,
    },
    "qwen3-30b-a3b": {
        **{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48},
        **{"num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 151936, "max_position_embeddings": 40960},
        **{"head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8},
    },
    "mixtral-8x7b": {
        **{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768},
        **{"num_local_experts": 8, "num_experts_per_tok": 2},
    },
    "gpt-oss-20b": {
        **{"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24},
        **{
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 201088,
            "max_position_embeddings": 131072,
        },
        **{"head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4},
    },
}


def folder(under: Path, name: str) -> str:
    (under / name).mkdir(exist_ok=True)
    (under / name / "config.json").write_text(json.dumps(CONFIGS[name]))
    return str(under / name)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    under = tmp_path_factory.mktemp("models")
    return {name: count(folder(under, name)) for name in CONFIGS}


def sft(**fields: Any) -> SFTSettings:
    return SFTSettings.model_validate({"sources": [{"path": "rows.jsonl"}], "max_tokens": 65536, **fields})


def dpo(**fields: Any) -> DPOSettings:
    return DPOSettings.model_validate({"max_tokens": 131072, **fields})


def test_parameters_are_those_of_the_model_itself_mixtures_of_experts_included(shapes: dict[str, ModelShape]) -> None:
    billions = {name: round(found.parameters / 1e9, 2) for name, found in shapes.items()}
    assert billions == {
        **{"llama-3.1-8b": 8.03, "glm-4-9b": 9.4, "qwen3-8b": 8.19},
        **{"qwen3-30b-a3b": 30.53, "mixtral-8x7b": 46.7, "gpt-oss-20b": 20.91},
    }
    active = {
        name: round(found.active / 1e9, 1) for name, found in shapes.items() if found.active < found.parameters / 2
    }
    assert active == {"qwen3-30b-a3b": 2.7, "mixtral-8x7b": 12.6, "gpt-oss-20b": 3.0}
    assert (shapes["llama-3.1-8b"], shapes["glm-4-9b"]) == (KNOWN[LLAMA], KNOWN["zai-org/glm-4-9b-hf"])


@pytest.mark.parametrize(("name", "gib"), [("mixtral-8x7b", 89), ("qwen3-30b-a3b", 59), ("gpt-oss-20b", 41)])
def test_weights_of_a_mixture_with_what_zero_3_gathers(name: str, gib: float, shapes: dict[str, ModelShape]) -> None:
    found = estimate(sft(zero=3, global_batch=1), shapes[name], 1, 4096)
    assert (found.weights + found.buffers - 2 * BUCKET) / 2**30 == pytest.approx(gib, rel=0.02)


PUBLISHED = {  # Llama-8B on one H200, weights and optimizer on the CPU, Liger's kernels: arXiv 2506.13996, table 1
    "fitted: offloaded checkpoints": (650_000, {"offloaded": True}, 126.8),
    "fitted: tiled MLPs": (1_200_000, {"offloaded": True, "tiles": 64}, 136.2),
    "logits as they are": (65_536, {"tiled_head": False}, 137.4),
    "fused cross-entropy": (300_000, {}, 135.0),
}


@pytest.mark.parametrize("point", PUBLISHED)
def test_published_peaks_on_an_h200_are_estimated_within_a_tenth(point: str) -> None:
    tokens, how, gigabytes = PUBLISHED[point]
    work, llama = Pass(tokens, tokens, stream=2, compute=2, fused=True, **how), KNOWN[LLAMA]
    buffers = 2 * LIVE_PARAMETERS + 2 * BUCKET
    total = buffers + work.kept(llama) + max(work.layer(llama), work.logits(llama))
    assert total / 1e9 == pytest.approx(gigabytes, rel=0.002 if point.startswith("fitted") else 0.1)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "glm-4-9b", "qwen3-8b", "qwen3-30b-a3b"])
def test_what_is_said_to_fit_does_at_64k_and_128k(name: str, tmp_path: Path, shapes: dict[str, ModelShape],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("lrf_training.forecast.shape_of", lambda _: shapes[name])
    for tokens in (65536, 131072):
        for settings, world in ((dpo(max_tokens=tokens, lora={}), 1), (sft(max_tokens=tokens, zero=3), 8)):
            found: Any = forecast(settings, name, world)
            assert found["longest"] == tokens
            assert found["gib_together"] == pytest.approx(sum(found["gib"].values()), abs=0.4)
            assert found["fits"] == (found["gib_together"] * 1.1 * 2**30 < 80e9) == (found["change"] == {})
            changed = type(settings).model_validate({**settings.model_dump(exclude_unset=True), **found["change"]})
            then: Any = forecast(changed, name, world)
            assert then["fits"]
            assert then["gib_together"] == found["gib_then"]


def test_a_pair_of_128k_tokens_with_adapters_fits_into_80_gb_with_tiles_and_offload(monkeypatch: Any) -> None:
    found: Any = forecast(dpo(lora={}), LLAMA, 1)
    assert (found["fits"], found["change"]) == (False, {"activation_offload": True})
    both: Any = forecast(dpo(lora={}, mlp_tiles=16, activation_offload=True), LLAMA, 1)
    assert both["gib_together"] < found["gib_then"] < 60
    hopeless: Any = forecast(dpo(lora={}, gpu={"memory_gb": 16}), LLAMA, 1)
    assert hopeless["change"] is None


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"zero": 3}, {"zero": 2}),
        ({"zero": 2}, {}),
        ({"zero": 3, "offload": "all"}, {"zero": 3, "offload": "optimizer"}),
        ({"lora": {"rank": 16}}, {}),
        ({}, {"gradient_checkpointing": False}),
        ({"mlp_tiles": 8}, {}),
        ({"activation_offload": True}, {}),
        ({"max_tokens": 8192}, {}),
    ],
)
def test_what_saves_memory_lowers_the_forecast(less: dict[str, Any], more: dict[str, Any]) -> None:
    found: list[Any] = [forecast(sft(**fields), LLAMA, 8)["gib_together"] for fields in (less, more)]
    assert found[0] < found[1]


def test_operations_are_those_that_torch_counts(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", **small, num_key_value_heads=2, vocab_size=64, max_position_embeddings=256)
    model = AutoModelForCausalLM.from_config(config)
    ids = torch.arange(128)[None] % 64
    with FlopCounterMode(display=False) as counted:
        model(ids, labels=ids).loss.backward()
    whole = counted.get_total_flops()
    found = flops_a_row(sft(gradient_checkpointing=False), shape.shape_of_model(model), 128)
    attention = 3 * 2 * (2 * 64 * 128 * 128)  # torch's counter doesn't know the CPU's flash kernel
    assert whole == pytest.approx(found - attention, rel=0.01)


def test_a_shape_is_counted_in_a_process_of_its_own_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: dict[str, ModelShape]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shape, "_counted", lambda *_: {**dict.fromkeys(ModelShape.__slots__, 1), "plain": None})
    model = folder(tmp_path, "qwen3-8b")
    once = shape_of(model)
    monkeypatch.setattr(shape, "_counted", lambda *_: pytest.fail("counted again"))
    assert shape_of(model) == once
    (tmp_path / "qwen3-8b" / "config.json").write_text("{}")
    with pytest.raises(BaseException, match="counted again"):
        shape_of(model)


@pytest.mark.slow
def test_a_folder_whose_config_is_of_no_model_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text('{"model_type": "nobody"}')
    found: Any = forecast(sft(), str(tmp_path), 1)
    assert "no model could be made of" in found["unknown"]
    assert "nobody" in found["unknown"]
    good: Any = forecast(sft(), folder(tmp_path, "qwen3-8b"), 1)
    assert good["gib"]["weights"] == pytest.approx(6 * 8.19e9 / 2**30, rel=0.01)


def test_of_an_unknown_model_nothing_is_estimated() -> None:
    assert "there is no config.json of org/nobody-knows" in str(forecast(sft(), "org/nobody-knows", 1)["unknown"])


def test_of_a_trial_s_tiny_policy_nothing_is_estimated() -> None:
    assert sft(init={}).memory(None, 1) == {}
