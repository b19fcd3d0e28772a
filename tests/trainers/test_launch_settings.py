"""How a training is shared and what memory it takes: settings alone, without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.errors import ConfigError
from lrf_reward.settings import RewardSettings
from lrf_sft.settings import SFTSettings
from lrf_training.memory import KNOWN, ModelShape, estimate, shape_of

LLAMA = "meta-llama/Llama-3.1-8B"


def settings(**fields: Any) -> SFTSettings:
    return SFTSettings.model_validate({"sources": [{"path": "rows.jsonl"}], **fields})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sequence_parallel": 2}, "needs zero: 3"),
        ({"sequence_parallel": 2, "zero": 2}, "multiplies the gradients"),
        ({"offload": "optimizer"}, "offload needs zero: 2 or 3"),
        ({"offload": "all", "zero": 2}, "offload: all needs zero: 3"),
        ({"zero": 1}, "0, 2 or 3"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**fields)


@given(batch=st.integers(1, 64), micro=st.integers(1, 4), world=st.integers(1, 64), sp=st.sampled_from([1, 2, 4, 8]))
def test_the_shares_make_the_batch_or_what_is_said_to_fit_does(batch: int, micro: int, world: int, sp: int) -> None:
    if batch % micro:
        return
    made = settings(global_batch=batch, micro_batch=micro, zero=3, sequence_parallel=sp)
    try:
        shares = made.shares(world)
    except ConfigError as error:
        if world % sp:
            assert "must divide the number of processes" in str(error)  # noqa: PT017
            return
        fits = str(error).partition("what would fit: ")[2].split(", or ")
        for fit in fits:
            numbers = [int(n) for n in fit.replace("(zero: 3)", "").replace(":", " ").split() if n.isdigit()]
            for n in numbers:
                b, m, w, s = batch, micro, world, sp
                if "global_batch" in fit:
                    b = n
                elif "micro_batch" in fit:
                    m = n
                elif "processes" in fit:
                    w = n
                else:
                    s = n
                assert b * s % (w * m) == 0
                assert w % s == 0
        return
    assert world // sp * micro * shares.accumulation == batch


def test_deepspeeds_configuration_has_only_what_the_settings_say() -> None:
    assert settings().shares(1).deepspeed is None
    config = settings(zero=2, global_batch=8, max_grad_norm=0.5).shares(4).deepspeed
    assert config is not None
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (1, 2)
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"]["stage"] == 2
    assert "offload_optimizer" not in config["zero_optimization"]
    offloaded = settings(zero=3, offload="all").shares(1).deepspeed
    assert offloaded is not None
    assert offloaded["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert offloaded["optimizer"]["type"] == "AdamW"
    json.dumps(offloaded)


def test_how_a_training_is_shared_is_no_part_of_what_it_makes() -> None:
    assert settings().not_fingerprinted >= {"zero", "offload", "sequence_parallel"}


def test_a_reward_model_is_trained_in_one_process() -> None:
    made = RewardSettings.model_validate({"global_batch": 8, "micro_batch": 2})
    assert made.shares(1).accumulation == 4
    for world, fields in ((2, {}), (1, {"zero": 2})):
        with pytest.raises(ConfigError, match="trained in one process"):
            RewardSettings.model_validate(fields).shares(world)


def test_the_known_models_have_as_many_weights_as_they_are_said_to() -> None:
    assert math.isclose(KNOWN[LLAMA].parameters, 8.03e9, rel_tol=1e-3)
    assert math.isclose(KNOWN["zai-org/glm-4-9b-hf"].parameters, 9.40e9, rel_tol=1e-3)


def test_hidden_states_of_a_sequence_of_64k_tokens_take_16_gib() -> None:
    found = estimate(settings(max_tokens=65536, lora={}), LLAMA, 1)
    assert found["gib"]["activations"] == 16.0
    assert estimate(settings(max_tokens=65536), LLAMA, 1)["gib"]["activations"] == 32.0  # in float32
    assert found["longest"] == 65536
    shared = estimate(settings(max_tokens=65536, zero=3, sequence_parallel=4), LLAMA, 32)
    assert shared["gib"]["activations"] == 4.0


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"zero": 3}, {"zero": 2}),
        ({"zero": 2}, {}),
        ({"zero": 3, "offload": "all"}, {"zero": 3, "offload": "optimizer"}),
        ({"lora": {"rank": 16}}, {}),
        ({}, {"gradient_checkpointing": False}),
        ({"max_tokens": 8192}, {"max_tokens": 65536}),
    ],
)
def test_what_saves_memory_lowers_the_estimate(less: dict[str, Any], more: dict[str, Any]) -> None:
    found = [estimate(settings(**{"max_tokens": 32768, **f}), LLAMA, 8)["gib_together"] for f in (less, more)]
    assert found[0] < found[1]


def test_without_a_limit_the_longest_sample_is_the_model_s_window() -> None:
    assert estimate(settings(), LLAMA, 1)["longest"] == 131072


def test_a_model_s_shape_is_read_from_its_folder_and_else_unknown(tmp_path: Path) -> None:
    config = {
        **{"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
        **{"vocab_size": 500, "max_position_embeddings": 128, "tie_word_embeddings": True},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(str(tmp_path)) == ModelShape(64, 2, 4, 4, 256, 500, 128, head=16, tied=True)
    (tmp_path / "config.json").write_text("{}")
    assert shape_of(str(tmp_path)) is None
    assert "unknown" in estimate(settings(), "org/nobody-knows", 1)


def test_of_a_trial_s_tiny_policy_no_memory_is_estimated() -> None:
    assert settings(init={}).memory(None, 1) == {}
