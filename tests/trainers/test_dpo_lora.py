"""Low-rank adapters: trained, saved, merged, and sharing prompts like all weights do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lrf.errors import StageError
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.adapters import save_merged
from lrf_training.models import new_model, new_tokenizer
from lrf_training.settings import Init

TINY: dict[str, Any] = {"global_batch": 2, "learning_rate": 1e-2, "max_steps": 3}
LORA: dict[str, Any] = {"rank": 2, "alpha": 4}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder, init = tmp_path / "base", Init(hidden=16, layers=2, heads=2, vocab=320)
    tokenizer = new_tokenizer(["a few words, no more"], init)
    new_model(tokenizer, init, window=512, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(job: Any, row: Any, base: Path, **settings: Any) -> Any:
    output = settings.pop("output", "out")
    reports: list[Any] = []
    rows = [row(n) for n in range(4)]
    result = DPO(DPOSettings.model_validate(TINY | settings)).train(
        job(rows, model=str(base), output=output, report=reports.append)
    )
    return result, [r for r in reports if "loss" in r]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(2, 40)[None]).logits
    return found


def test_the_checkpoint_holds_adapters_that_transformers_loads_with_their_model(job, row, base: Path) -> None:
    result, _ = train(job, row, base, lora=LORA)
    assert not (result.checkpoint / "model.safetensors").exists()
    assert (result.checkpoint / "adapter_model.safetensors").stat().st_size < 100_000
    before = AutoModelForCausalLM.from_pretrained(base)
    after = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    assert not torch.allclose(logits(before), logits(after), atol=1e-4)
    assert AutoTokenizer.from_pretrained(result.checkpoint).chat_template


def test_merged_the_checkpoint_is_the_model_with_its_adapters(job, row, base: Path) -> None:
    apart, _ = train(job, row, base, lora=LORA, output="apart")
    merged, _ = train(job, row, base, lora=LORA | {"merge": True}, output="merged")
    assert not (merged.checkpoint / "adapter_model.safetensors").exists()
    models = [AutoModelForCausalLM.from_pretrained(result.checkpoint) for result in (apart, merged)]
    torch.testing.assert_close(logits(models[0]), logits(models[1]), rtol=1e-5, atol=1e-6)


def test_in_bfloat16_frozen_weights_are_too_and_adapters_and_what_is_merged_are_float32(job, row, base: Path) -> None:
    from safetensors.torch import load_file

    settings = {"lora": LORA, "dtype": "bfloat16", "max_steps": 1, "ce": {"weight": 0}, "reference": "stored"}
    apart, reports = train(job, row, base, **settings, output="apart")
    assert reports[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert {t.dtype for t in load_file(apart.checkpoint / "adapter_model.safetensors").values()} == {torch.float32}
    merged, _ = train(job, row, base, **settings | {"lora": LORA | {"merge": True}}, output="merged")
    weights = load_file(merged.checkpoint / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float32}
    assert AutoModelForCausalLM.from_pretrained(merged.checkpoint).dtype == torch.float32
    before = load_file(base / "model.safetensors")["model.norm.weight"]
    assert torch.equal(weights["model.norm.weight"], before.bfloat16().float())


@pytest.mark.parametrize(
    "reference",
    [None, pytest.param("stored", marks=pytest.mark.slow), pytest.param("adapter_off", marks=pytest.mark.slow)],
)
def test_adapters_are_trained_further_against_what_they_were(job, row, base: Path, reference: str | None) -> None:
    from safetensors.torch import load_file

    first, _ = train(job, row, base, lora=LORA, output="first")
    again = {"lora": {"continue_adapters": True}, **({"reference": reference} if reference else {})}
    same, reports = train(job, row, first.checkpoint, **again | {"learning_rate": 1e-30, "max_steps": 1}, output="same")
    assert reports[0]["margin"] == pytest.approx(0, abs=1e-6)
    before, after = (load_file(result.checkpoint / "adapter_model.safetensors") for result in (first, same))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((same.checkpoint / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == (str(base), 2, 4)
    assert not any(path.is_dir() for path in same.checkpoint.iterdir())
    if reference is None:
        return
    moved, reports = train(job, row, first.checkpoint, **again, output="moved")
    _, others = train(job, row, first.checkpoint, lora=None, output="merged")
    assert reports[0]["chosen_logp"] == pytest.approx(others[0]["chosen_logp"], rel=1e-5)
    assert reports[-1]["margin"] > 1e-3
    logits(AutoModelForCausalLM.from_pretrained(moved.checkpoint))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"lora": {"continue_adapters": True, "rank": 8}}, "continue_adapters: rank can't change"),
        ({"lora": {"continue_adapters": True}, "init": {}}, "needs a policy.model that is a folder of adapters"),
    ],
)
def test_adapters_that_go_on_are_those_of_the_policy(settings: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        DPOSettings.model_validate(settings)


def test_a_model_without_adapters_has_none_to_train_further(job, row, base: Path) -> None:
    with pytest.raises(StageError, match=r"continue_adapters: policy.model .* is no folder of adapters"):
        train(job, row, base, lora={"continue_adapters": True})


def test_prefix_sharing_changes_nothing_with_adapters(job, row, base: Path) -> None:
    _, off = train(job, row, base, lora=LORA, prefix_sharing="off", output="off", micro_batch=2)
    result, on = train(job, row, base, lora=LORA, prefix_sharing="on", output="on", micro_batch=2)
    assert result.metrics["prefix_sharing"] == "on"
    for plain, shared in zip(off, on, strict=True):
        assert shared["loss"] == pytest.approx(plain["loss"], abs=1e-5)
        assert shared["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
    assert on[-1]["margin"] > 1e-3


@pytest.mark.slow
def test_the_adapter_switched_off_is_the_stored_reference(job, row, base: Path) -> None:
    stored, one = train(job, row, base, lora=LORA, reference="stored", output="stored")
    off, two = train(job, row, base, lora=LORA, reference="adapter_off", output="off")
    assert (stored.metrics["reference"], off.metrics["reference"]) == ("stored", "adapter_off")
    assert not (off.checkpoint.parent / "reference").exists()
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)


@pytest.mark.slow
def test_only_named_modules_get_adapters(job, row, base: Path) -> None:
    from safetensors.torch import load_file

    result, _ = train(job, row, base, lora=LORA | {"target_modules": ["q_proj"]})
    assert all("q_proj" in name for name in load_file(result.checkpoint / "adapter_model.safetensors"))


def test_modules_that_the_model_lacks_are_refused(job, row, base: Path) -> None:
    with pytest.raises(StageError, match=r"target_modules: the model has no no_such; it has .*q_proj"):
        train(job, row, base, lora=LORA | {"target_modules": ["no_such"]})


def test_adapters_of_a_random_model_must_be_merged(job, row) -> None:
    settings = DPOSettings.model_validate({"init": {}, "lora": LORA})
    with pytest.raises(StageError, match=r"set lora\.merge: true"):
        DPO(settings).train(job([row()]))


def test_without_adapters_there_are_none_to_switch_off() -> None:
    with pytest.raises(ValidationError, match="adapter_off needs lora"):
        DPOSettings(reference="adapter_off")


@pytest.mark.parametrize("kind", ["mixtral", "glm4_moe"])
def test_merging_knows_adapters_on_a_mixtures_experts(kind: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "n_routed_experts": 4}
    heads["num_experts_per_tok"] = 2
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=64, **sizes, **heads))
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, lora)
    save_merged(adapted, tmp_path)
    expected = adapted.merge_and_unload().eval()
    merged, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    assert torch.allclose(logits(merged), logits(expected), atol=1e-5)
