"""That sharing a prompt's pass changes nothing but the time."""

from __future__ import annotations

import copy
import doctest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Glm4Config,
    GlmConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from trl import DPOConfig

import lrf_dpo.batches
import lrf_dpo.rows
import lrf_reward.objective
import lrf_sft.objective
import lrf_training.prefix_sharing
from lrf.errors import StageError
from lrf_dpo.batches import ListCollator, padded
from lrf_dpo.objective import DPOWithCETrainer
from lrf_dpo.rows import token_row
from lrf_dpo.settings import CE, DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.architecture import not_plain
from lrf_training.models import new_tokenizer
from lrf_training.prefix_sharing import PrefixSharing, share_prompts
from lrf_training.settings import Init

Result = tuple[float, torch.Tensor]  # loss, all gradients in one vector

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama, a key for each head": LlamaConfig(**SIZES | {"num_key_value_heads": 4}),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "glm": GlmConfig(**SIZES),
    "glm4": Glm4Config(**SIZES),
}


def row(prompt: int, chosen: int, rejected: int) -> dict[str, list[int]]:
    generator = torch.Generator().manual_seed(prompt)
    lengths = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    return {name: torch.randint(2, 300, (n,), generator=generator).tolist() for name, n in lengths.items()}


def token_rows(pairs: Any) -> list[dict[str, Any]]:
    columns = (token_row(pair["prompt_ids"], [pair["chosen_ids"], pair["rejected_ids"]]) for pair in pairs)
    return [ids | numbers for ids, numbers in columns]


def random_model(config: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    for parameter in model.parameters():  # attention sharp enough that a wrong mask shows
        parameter.data.mul_(3)
    return model


def loss_and_gradients(folder: Path, config: Any, rows: Any, *, shared: bool, **options: Any) -> Result:
    policy, reference, rows = random_model(config, 1), random_model(config, 2), token_rows(rows)
    ce, lora = options.pop("ce", CE()), options.pop("peft_config", None)
    tokenizer = new_tokenizer(["x"], Init())
    trainer = DPOWithCETrainer(
        ce=ce,
        args=DPOConfig(
            str(folder),
            beta=0.15,
            max_length=None,
            per_device_train_batch_size=len(rows),
            use_cpu=True,
            bf16=False,
            report_to="none",
            **{"gradient_checkpointing": False} | options,
        ),
        model=policy,
        ref_model=None if lora else reference,
        peft_config=lora,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        data_collator=ListCollator(share_prompts if shared else padded, tokenizer.pad_token_id),
    )
    if lora:
        torch.manual_seed(3)  # peft's random adapters are the same for both ways
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.05)
    policy = trainer.model
    if shared:
        PrefixSharing(policy)
        PrefixSharing(reference)
    if options.get("gradient_checkpointing"):
        policy.gradient_checkpointing_enable()
    policy.train()
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    gradients = torch.autograd.grad(loss, [p for p in policy.parameters() if p.requires_grad])
    return float(loss.detach()), torch.cat([g.flatten() for g in gradients])


def assert_same(plain: Result, shared: Result) -> None:
    assert shared[0] == pytest.approx(plain[0], abs=1e-5)
    assert plain[1].norm() > 0.1
    assert (shared[1] - plain[1]).norm() / plain[1].norm() < 1e-5


PAIR = row(40, 6, 9)
ROWS = {
    "equal answers": [row(60, 9, 9)],
    "unequal answers": [row(60, 9, 4)],
    "long answers": [row(64, 250, 180)],  # where sums of float32 would differ by their order
    "three pairs": [row(50, 1, 7), row(31, 8, 3), row(1, 1, 1)],
    "three pairs of one prompt, with answers in common": [
        PAIR,
        PAIR | {"rejected_ids": [7, 8, 9]},
        {"prompt_ids": PAIR["prompt_ids"], "chosen_ids": [7, 8, 9], "rejected_ids": PAIR["rejected_ids"]},
        row(31, 8, 3),
    ],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_the_plain_path(tmp_path: Path, name: str, rows: Any) -> None:
    plain, shared = (loss_and_gradients(tmp_path, CONFIGS[name], rows, shared=s) for s in (False, True))
    assert_same(plain, shared)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mistral", "phi3", "gemma", "olmo2", "granite", "gpt_neox", "glm4_moe"])
def test_they_are_for_architectures_that_a_trial_admits(tmp_path: Path, kind: str) -> None:
    config = AutoConfig.for_model(kind, **SIZES | ({"sliding_window": None} if kind == "mistral" else {}))
    assert not_plain(config) is None
    rows = ROWS["three pairs"]
    plain, shared = (loss_and_gradients(tmp_path, config, rows, shared=s) for s in (False, True))
    assert_same(plain, shared)


@pytest.mark.parametrize("reduction", ["seq_mean", "sum"])
def test_every_reduction_of_the_cross_entropy_term_is_the_same(tmp_path: Path, reduction: Any) -> None:
    rows, ce = [row(20, 5, 9), row(31, 8, 3)], CE(reduction=reduction)
    plain, shared = (loss_and_gradients(tmp_path, CONFIGS["llama"], rows, shared=s, ce=ce) for s in (False, True))
    assert_same(plain, shared)


def test_it_composes_with_gradient_checkpointing(tmp_path: Path) -> None:
    rows = [row(60, 9, 4)]
    plain = loss_and_gradients(tmp_path, CONFIGS["llama"], rows, shared=False)
    shared = loss_and_gradients(tmp_path, CONFIGS["llama"], rows, shared=True, gradient_checkpointing=True)
    assert_same(plain, shared)


def test_answers_of_several_pairs_are_in_the_sequence_once() -> None:
    batch = ListCollator(share_prompts, 0)(token_rows(ROWS["three pairs of one prompt, with answers in common"]))
    assert batch["layout"].groups == ((40, (6, 9, 3)), (31, (8, 3)))
    assert batch["shared_ids"].shape == (1, 40 + 6 + 9 + 3 + 31 + 8 + 3)


def test_it_composes_with_adapters(tmp_path: Path) -> None:
    rows = [row(60, 9, 4), row(31, 8, 3)]
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    plain, shared = (
        loss_and_gradients(tmp_path, CONFIGS["llama"], rows, shared=s, peft_config=lora) for s in (False, True)
    )
    assert_same(plain, shared)


@pytest.mark.parametrize(
    "module", [lrf_training.prefix_sharing, lrf_dpo.batches, lrf_dpo.rows, lrf_sft.objective, lrf_reward.objective]
)
def test_the_tensors_in_a_collators_docstring_are_those_it_returns(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_a_whole_training_gives_the_same_figures_with_and_without(job, row) -> None:
    rows = [row(n) for n in range(4)]

    def train(sharing: str) -> Any:
        settings = {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "global_batch": 2, "max_steps": 4}
        settings |= {"learning_rate": 1e-3, "prefix_sharing": sharing, "micro_batch": 2}
        return DPO(DPOSettings.model_validate(settings)).train(job(rows, output=sharing)).metrics

    off, auto = train("off"), train("auto")
    assert off["prefix_sharing"] == "off: prefix_sharing: off"
    assert auto["prefix_sharing"] == "on"
    assert auto["loss"] == pytest.approx(off["loss"], abs=1e-4)
    assert auto["margin"] == pytest.approx(off["margin"], abs=1e-4)


@pytest.fixture
def mistral(tmp_path: Path) -> Path:
    folder = tmp_path / "mistral"
    tokenizer = new_tokenizer(["x"], Init())
    AutoModelForCausalLM.from_config(MistralConfig(**SIZES | {"sliding_window": 16})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_auto_takes_the_plain_path_and_says_why(job, row, mistral: Path) -> None:
    metrics = DPO(DPOSettings(global_batch=1)).train(job([row()], model=str(mistral))).metrics
    assert metrics["prefix_sharing"] == "off: the model attends to a sliding window (sliding_window: 16)"


def test_on_stops_where_it_cannot_be_before_weights_are_loaded(job, row, mistral: Path) -> None:
    (mistral / "model.safetensors").unlink()
    with pytest.raises(StageError, match="prefix_sharing: on, but the model attends to a sliding window"):
        DPO(DPOSettings(global_batch=1, prefix_sharing="on")).train(job([row()], model=str(mistral)))
