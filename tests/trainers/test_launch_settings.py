"""How a training is shared and what memory it takes: settings alone, without torch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.errors import ConfigError
from lrf_reward.settings import RewardSettings
from lrf_sft.settings import SFTSettings


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


def test_a_reward_model_is_trained_in_several_processes_too_and_comes_out_whole() -> None:
    made = RewardSettings.model_validate({"global_batch": 8, "micro_batch": 2, "zero": 2})
    assert made.shares(2).accumulation == 2
    for fields, problem in (({"lora": {}}, "merge: true"), ({"zero": 3, "sequence_parallel": 2}, "sequence_parallel")):
        with pytest.raises(ValidationError, match=problem):
            RewardSettings.model_validate(fields)
