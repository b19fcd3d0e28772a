"""Tiled MLPs and log-probabilities: the same results in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from lrf.errors import StageError
from lrf_training.tiling import fused_log_probs, tile_mlps

SMALL: dict[str, Any] = {
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50, "max_position_embeddings": 64, "pad_token_id": 0},
}
MIXTURE: dict[str, Any] = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{"llama": {}, "glm4": {}, "qwen3": {}, "gemma2": {}},
    **{"mixtral": MIXTURE, "qwen3_moe": {**MIXTURE, "moe_intermediate_size": 24, "norm_topk_prob": True}},
}


def model_of(architecture: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SMALL, **ARCHITECTURES.get(architecture, {}), **more)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tiles_change_neither_the_loss_nor_the_gradients(architecture: str) -> None:
    ids = torch.arange(26).view(2, 13) + 3
    found = []
    for tiles in (1, 4):
        model = model_of(architecture)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        tile_mlps(model, tiles)
        add_fused_lm_head(model)
        loss = -fused_log_probs(model, input_ids=ids, labels=ids).log_probs.double().mean()
        loss.backward()
        found.append((float(loss.detach()), [p.grad for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for whole, tiled in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(whole, tiled, rtol=1e-5, atol=1e-6)


def test_only_the_tokens_that_are_scored_reach_the_lm_head_whatever_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = model_of("llama"), []
    add_fused_lm_head(model)
    ids = torch.arange(20).view(2, 10)
    labels = ids.masked_fill(torch.arange(10) < 8, -100)
    usual = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **out: (seen.append(len(a)), usual(a, b, **out))[1])
    found = fused_log_probs(model, input_ids=ids, labels=labels).log_probs
    assert seen == [4]
    wanted = model(ids).logits[:, 7:9].log_softmax(-1).gather(-1, ids[:, 8:, None])[..., 0]
    torch.testing.assert_close(found, torch.nn.functional.pad(wanted, (7, 0)))


@pytest.mark.parametrize(("architecture", "problem"), [("bloom", "the layers of bloom have no"), ("opt", "opt")])
def test_an_architecture_that_cannot_be_tiled_is_refused_by_name(architecture: str, problem: str) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50, "ffn_dim": 16}
    config = AutoConfig.for_model(
        architecture, **small, **({"word_embed_proj_dim": 16} if architecture == "opt" else {})
    )
    with pytest.raises(StageError, match=f"train.mlp_tiles: .*{problem}"):
        tile_mlps(AutoModelForCausalLM.from_config(config), 2)


def test_an_mlp_that_returns_more_than_hidden_states_is_refused_in_its_first_pass() -> None:
    model = model_of("gpt_oss", **MIXTURE)
    tile_mlps(model, 2)
    with pytest.raises(StageError, match="the MLP of gpt_oss returns more than hidden states"):
        model(torch.arange(8)[None])
