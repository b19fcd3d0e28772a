"""Packed rows: all of them once, in few sequences, with the loss they have by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig
from trl.trainer.utils import add_fused_lm_head

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_sft.objective import SFTCollator
from lrf_sft.packing import bins, refuse_packing
from lrf_sft.settings import SFTSettings
from lrf_sft.trainer import SFT
from lrf_training.prefix_sharing import NAME
from lrf_training.tiling import fused_log_probs

SMALL: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
}


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60), limit=st.integers(20, 40))
def test_each_row_is_in_one_sequence_none_is_too_long_and_few_are_needed(lengths: list[int], limit: int) -> None:
    filled = bins(lengths, limit)
    assert sorted(row for some in filled for row in some) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in some) <= limit for some in filled)
    assert (
        len(filled) <= 11 / 9 * -(-sum(lengths) // limit) + 1
        or min(sum(lengths[row] for row in some) for some in filled[:-1]) > limit / 2
    )


def test_a_packed_sequence_has_its_rows_losses_and_gradients() -> None:
    drawn = torch.Generator().manual_seed(1)
    ids = [torch.randint(0, 60, (length,), generator=drawn).tolist() for length in (9, 14, 5)]
    rows = [{"input_ids": row, "spans": [2.0, float(len(row))]} for row in ids]
    packed = {
        "input_ids": [token for row in ids for token in row],
        "spans": [2.0, 9.0, 11.0, 23.0, 25.0, 28.0],
        "lengths": [float(len(row)) for row in ids],
    }
    found = []
    for batch in (SFTCollator(0)(rows), SFTCollator(0, packed=True)([packed])):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(LlamaConfig(**SMALL))
        if "layout" in batch:
            model.set_attn_implementation(NAME)
        add_fused_lm_head(model)
        loss = -fused_log_probs(model, **batch, use_cache=False).log_probs.double().sum()
        loss.backward()
        found.append((float(loss.detach()), [parameter.grad for parameter in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for alone, together in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_packing_changes_how_many_rows_make_a_step_and_nothing_else(
    job: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    rows = [{"prompt": f"question {i} " * (1 + i % 3), "completion": f"answer {i} " * (1 + i % 4)} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        **{"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "max_steps": 3, "learning_rate": 1e-3},
        "sources": [{"path": tmp_path / "rows.jsonl"}],
    }
    losses = []
    for name, more in (("plain", {"global_batch": 12}), ("packed", {"packing": True, "max_tokens": 120})):
        done, batch = job([], output=name), {"global_batch": 1} | more
        if name == "packed":  # as many sequences as there are make a step of all rows
            batch["global_batch"] = (
                SFT(SFTSettings.model_validate(common | batch)).train(done).metrics["packed_sequences"]
            )
            done = job([], output="again")
            assert 1 < batch["global_batch"] < 12
        result = SFT(SFTSettings.model_validate(common | batch)).train(done)
        assert result.metrics["rows"] == 12
        losses.append(
            [json.loads(line)["loss"] for line in (done.output / "training_log.jsonl").read_text().splitlines()]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_model_with_a_sliding_window_is_refused_by_name() -> None:
    config = MistralConfig(**SMALL, sliding_window=8)
    with pytest.raises(StageError, match=r"train.packing .*sliding_window: 8"):
        refuse_packing(config, 9)
    refuse_packing(config, 8)  # no row is as long
