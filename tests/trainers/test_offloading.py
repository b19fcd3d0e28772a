"""Activations that wait in the CPU's memory come back as they were."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.models.activation_offloading import OffloadActivations
from trl.trainer.utils import add_fused_lm_head

from lrf_grpo.settings import GRPOSettings
from lrf_training.offloading import OffloadingTrainer
from lrf_training.prefix_sharing import PrefixSharing, answer_log_probs, share_prompts
from lrf_training.tiling import tile_mlps

MODEL = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
)
BATCH = share_prompts([([*range(3, 40)], [4, 5, 6]), ([*range(3, 40)], [7, 8])], 0)


def loss_and_gradients(context: Any, checkpoints: bool) -> tuple[float, torch.Tensor]:
    model: Any = copy.deepcopy(MODEL)
    add_fused_lm_head(model)
    tile_mlps(model, 3)
    PrefixSharing(model)
    if checkpoints:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    with context:
        loss = answer_log_probs(model, BATCH).sum()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture(autouse=True)
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU, as if it were a GPU whose tensors are taken away."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("cpu"))


@pytest.mark.parametrize("checkpoints", [False, True], ids=["kept", "checkpointed"])
def test_shared_prompts_and_tiled_mlps_have_the_same_gradients(checkpoints: bool) -> None:
    offload = OffloadActivations(use_pin_memory=False, use_streams=False, min_offload_size=1)
    moved: list[int] = []
    pack = offload.pack_hook
    offload.pack_hook = lambda tensor: moved.append(tensor.numel()) or pack(tensor)
    loss, gradients = loss_and_gradients(offload, checkpoints)
    expected, expected_gradients = loss_and_gradients(nullcontext(), checkpoints)
    assert sum(moved) > 1000
    assert loss == pytest.approx(expected, rel=1e-6)
    assert (gradients - expected_gradients).norm() <= 1e-6 * expected_gradients.norm()


@pytest.mark.parametrize(
    ("setting", "on_cpu", "offloads"), [(True, False, True), (True, True, False), (False, 0, False)]
)
def test_it_is_done_on_a_gpu_if_the_settings_say_so(setting: bool, on_cpu: bool, offloads: bool) -> None:
    trainer: Any = OffloadingTrainer()
    trainer.settings = GRPOSettings.model_validate({"init": {}, "activation_offload": setting})
    trainer.args, trainer.model = SimpleNamespace(use_cpu=on_cpu), MODEL
    assert isinstance(trainer.offload, OffloadActivations) == offloads
    assert trainer.offload is trainer.offload
