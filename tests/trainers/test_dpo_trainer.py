"""The dpo trainer as its stage sees it: pairs in, a checkpoint out, and a clear word on what can't be trained on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lrf.errors import StageError
from lrf.protocols import Trainer
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training import checkpoint
from lrf_training.models import PLAIN_TEMPLATE, new_model, new_tokenizer
from lrf_training.settings import Init

TINY = {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "global_batch": 2, "learning_rate": 1e-3}


def trainer(**settings: Any) -> DPO:
    return DPO(DPOSettings.model_validate(TINY | settings))


def log_prob(model: Any, prompt: list[int], answer: list[int]) -> float:
    """log π(answer | prompt), by hand."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A tiny model with its tokenizer, but without chat template."""
    folder, init = tmp_path / "model", Init(hidden=16, layers=1, heads=2, vocab=320)
    tokenizer = new_tokenizer(["a few words, no more"], init)
    new_model(tokenizer, init, window=512, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_it_satisfies_the_protocol() -> None:
    assert isinstance(trainer(), Trainer)


def test_registering_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, lrf_dpo.plugin as p; p.lrf_register_trainers(); assert 'pydantic' not in sys.modules\n"
        "import lrf_dpo.settings; print([m for m in ('torch', 'transformers', 'trl', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_checkpoint_that_transformers_loads_with_its_chat_template(job, row) -> None:
    result = trainer(max_steps=2).train(job([row(0), row(1)]))
    tokenizer = AutoTokenizer.from_pretrained(result.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "abé"}], add_generation_prompt=True)["input_ids"]
    assert tokenizer.decode(ids) == "### user\nabé\n\n### assistant\n"
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), len(tokenizer))


def test_progress_the_log_and_the_figures_tell_the_same(job, row) -> None:
    reports: list[Any] = []
    result = trainer(max_steps=3).train(job([row(0), row(1)], report=reports.append))
    steps = [r for r in reports if "loss" in r]
    log = (result.checkpoint.parent / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in log] == steps
    assert [(s["step"], s["steps"]) for s in steps] == [(1, 3), (2, 3), (3, 3)]
    assert {"margin", "accuracy", "chosen_logp_delta", "ce", "learning_rate"} <= steps[-1].keys()
    assert all(step["tokens_per_second"] > 0 and step["memory_gib"] > 0 for step in steps)
    assert result.metrics["margin"] == steps[-1]["margin"]
    assert (result.metrics["steps"], result.metrics["pairs"], result.metrics["lost_pairs"]) == (3, 2, 0)
    assert [r["phase"] for r in reports if "phase" in r] == [
        *("tokenising", "loading", "reference", "training", "preflight", "preflight", "saving")
    ]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(job, row) -> None:
    rows = [row(n) for n in range(4)]

    def weights(output: str, seed: int) -> bytes:
        result = trainer(epochs=1).train(job(rows, output=output, seed=seed))
        return (result.checkpoint / "model.safetensors").read_bytes()

    first = weights("a", 7)
    assert weights("b", 7) == first
    assert weights("c", 8) != first


def test_steps_follow_from_pairs_epochs_and_batch(job, row) -> None:
    result = trainer(epochs=3, global_batch=4, micro_batch=2).train(job([row(n) for n in range(8)]))
    assert result.metrics["steps"] == 6


def test_training_starts_from_a_model_in_a_folder(job, row, model_folder: Path) -> None:
    result = trainer(init=None, max_steps=1).train(job([row(0), row(1)], model=str(model_folder)))
    before, after = (load_file(folder / "model.safetensors") for folder in (model_folder, result.checkpoint))
    largest = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < largest < 1e-2  # one step of AdamW at a learning rate of 1e-3


def test_nothing_of_a_long_pair_is_cut(job, row) -> None:
    reports: list[Any] = []
    rows = [row(0, words=(700, 600, 400))]
    result = trainer(max_steps=1, global_batch=1).train(job(rows, report=reports.append))
    tokenizer = AutoTokenizer.from_pretrained(result.checkpoint)
    prompt = tokenizer.apply_chat_template(rows[0]["prompt"], add_generation_prompt=True)["input_ids"]
    answers = [
        [*tokenizer(rows[0][c][0]["content"])["input_ids"], tokenizer.eos_token_id] for c in ("chosen", "rejected")
    ]
    assert min(len(prompt), len(answers[0])) > 1024
    assert result.metrics["longest"] == len(prompt) + len(answers[0])
    assert result.metrics["tokens"] == len(prompt) + len(answers[0]) + len(answers[1])
    first = next(r for r in reports if "loss" in r)  # before any change: the random model itself
    start = new_model(tokenizer, Init.model_validate(TINY["init"]), result.metrics["longest"], seed=7)
    assert first["chosen_logp"] == pytest.approx(log_prob(start, prompt, answers[0]), rel=1e-5)
    assert first["rejected_logp"] == pytest.approx(log_prob(start, prompt, answers[1]), rel=1e-5)


def test_a_chat_template_from_a_file_is_used_and_saved(job, row, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ '' }}")
    result = trainer(chat_template=file, max_steps=1).train(job([row(0), row(1)]))
    assert AutoTokenizer.from_pretrained(result.checkpoint).chat_template == file.read_text()
    assert result.metrics["chat_template"] == "file"


def test_a_tokenizer_without_chat_template_gets_the_plain_one_and_it_is_said(job, row, model_folder: Path) -> None:
    reports: list[Any] = []
    result = trainer(init=None, max_steps=1).train(
        job([row(0), row(1)], model=str(model_folder), report=reports.append)
    )
    assert any("no chat template" in r.get("note", "") for r in reports)
    assert AutoTokenizer.from_pretrained(result.checkpoint).chat_template == PLAIN_TEMPLATE


def test_a_prompt_that_the_template_ends_otherwise_before_an_answer_is_said(job, row, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant><thoughts>{% endif %}"
    )
    result = trainer(chat_template=file, max_steps=1).train(job([row(0), row(1)]))
    assert result.metrics["prompt_ends_changed"] == 2
    assert any("ends the prompt differently" in note for note in result.metrics["notes"])


def test_a_row_without_template_hash_is_used_unchanged(job, row) -> None:
    rows = [row(0, prompt_template_sha256=None), row(1)]
    assert trainer(max_steps=1).train(job(rows)).metrics["pairs"] == 2


def stopped(job: Any, **settings: Any) -> str:
    with pytest.raises(StageError) as error:
        trainer(**settings).train(job)
    assert not (job.output / "checkpoint").exists()
    return str(error.value)


def test_no_policy_stops(job, row) -> None:
    assert "set policy.model, or train.init" in stopped(job([row()]), init=None)


def test_two_policies_stop(job, row) -> None:
    assert "both set" in stopped(job([row()], model="some/model"))


def test_a_missing_pairs_file_stops(job, row) -> None:
    missing = job([row()])
    missing.pairs.unlink()
    assert "run the stage `pairs` first" in stopped(missing)


def test_an_empty_pairs_file_stops(job) -> None:
    assert "there are no pairs to train on" in stopped(job([]))


def test_a_prompt_made_with_another_template_stops_and_names_both(job, row) -> None:
    message = stopped(job([row(0), row(1, prompt_template_sha256="cd" * 32)]))
    assert "pairs.jsonl:2 (sample s1)" in message
    assert "ab" * 32 in message
    assert "cd" * 32 in message
    assert "run the stage `pairs` again" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"chosen": [{"role": "assistant", "content": " \n"}]}, "the chosen answer is empty"),
        ({"rejected": [{"role": "assistant", "content": ""}]}, "the rejected answer is empty"),
        (
            {"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "a"}]},
            "same",
        ),
        ({"chosen": "text"}, "chosen must be a list of messages"),
        ({"prompt": [{"role": "user"}]}, "each message of prompt must have a role and a content"),
    ],
)
def test_a_bad_row_stops_and_is_named(job, row, fields: dict[str, Any], words: str) -> None:
    message = stopped(job([row(0), row(1, **fields)]))
    assert words in message
    assert "pairs.jsonl:2 (sample s1)" in message


def test_a_line_that_is_no_json_stops_and_is_named(job, row) -> None:
    broken = job([row(0)])
    with broken.pairs.open("a") as file:
        file.write('{"prompt": [')
    assert "pairs.jsonl:2: not JSON" in stopped(broken)


def test_bad_pairs_are_dropped_and_counted_where_the_settings_allow_it(job, row) -> None:
    rows = [row(0), row(1), row(2), row(3, chosen=[{"role": "assistant", "content": ""}])]
    metrics = trainer(on_bad_pair="drop", max_lost=0.25, max_steps=1).train(job(rows)).metrics
    assert (metrics["pairs"], metrics["lost_pairs"]) == (3, 1)
    assert metrics["lost_by_reason"] == {"the chosen answer is empty": 1}
    alone = [trainer(max_steps=1, global_batch=1).train(job([r])).metrics["tokens"] for r in (row(3), row(2))]
    assert 0.5 * min(alone) < metrics["lost_tokens"] < max(alone)  # the prompt's and the rejected answer's


def test_more_dropped_pairs_than_allowed_stop(job, row) -> None:
    rows = [row(0), row(1, chosen=[{"role": "assistant", "content": ""}])]
    assert "1 of 2 pairs (50.0%" in stopped(job(rows), on_bad_pair="drop", max_lost=0.4)


def test_a_pair_longer_than_max_tokens_stops_with_its_length(job, row) -> None:
    message = stopped(job([row(0), row(1, words=(400, 6, 9))]), max_tokens=500)
    assert "pairs.jsonl:2 (sample s1)" in message
    assert "more than max_tokens (500)" in message


def test_pairs_too_long_are_dropped_and_their_tokens_counted_where_allowed(job, row) -> None:
    short, long = row(0), row(1, words=(400, 6, 9))
    metrics = (
        trainer(max_tokens=500, on_too_long="drop", max_lost=0.5, global_batch=1).train(job([short, long])).metrics
    )
    assert (metrics["pairs"], metrics["lost_pairs"]) == (1, 1)
    assert metrics["lost_tokens"] > 500
    assert metrics["lost_by_reason"] == {"longer than max_tokens": 1}


def test_when_every_pair_is_dropped_it_stops(job, row) -> None:
    assert "none of 1 pairs" in stopped(job([row(0)]), max_tokens=5, on_too_long="drop", max_lost=1.0)


def test_a_pair_longer_than_the_models_window_stops(job, row, model_folder: Path) -> None:
    rows = [row(0, words=(600, 6, 9))]
    assert "more than the model's window (512)" in stopped(job(rows, model=str(model_folder)), init=None)


def test_a_model_that_is_not_there_stops_and_is_named(job, row, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    message = stopped(job([row()], model=str(tmp_path / "nothing")), init=None)
    assert "nothing" in message
    assert "its tokenizer can't be loaded" in message


def test_pickled_weights_are_refused(job, row, model_folder: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    (model_folder / "model.safetensors").unlink()
    torch.save(weights, model_folder / "pytorch_model.bin")
    assert "safetensors" in stopped(job([row()], model=str(model_folder)), init=None)


def test_a_tokenizer_of_another_model_stops(job, row, model_folder: Path) -> None:
    texts = ["".join(m["content"] for m in row(0)["prompt"])] * 4
    new_tokenizer(texts, Init(vocab=900)).save_pretrained(model_folder)
    assert "tokenizer and weights are of different models" in stopped(job([row()], model=str(model_folder)), init=None)


def test_a_chat_template_that_fails_stops_and_names_the_row(job, row, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{{ raise_exception('roles must alternate') }}")
    message = stopped(job([row()]), chat_template=file)
    assert "pairs.jsonl:1 (sample s0): the chat template failed: roles must alternate" in message


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"global_batch \(16\) must be a multiple of micro_batch \(3\)"):
        DPOSettings(micro_batch=3)


def test_weights_that_are_no_numbers_stop_before_training(job, row, model_folder: Path) -> None:
    weights = load_file(model_folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    message = stopped(job([row(0), row(1)], model=str(model_folder)), init=None)
    assert "the answers of row 1 have the log-probabilities nan, nan" in message


def test_a_loss_that_is_no_number_stops_and_the_last_good_checkpoint_stays(job, row) -> None:
    rows = [row(0), row(1)]
    good = trainer(max_steps=1).train(job(rows)).checkpoint
    before = (good / "model.safetensors").read_bytes()
    with pytest.raises(StageError, match=r"the loss became nan in step 2.*or set on_nan: skip"):
        trainer(max_steps=3, learning_rate=1e37).train(job(rows))
    assert (good / "model.safetensors").read_bytes() == before


def test_steps_whose_loss_is_no_number_are_left_out_and_counted_where_allowed(job, row) -> None:
    result = trainer(max_steps=3, learning_rate=1e37, on_nan="skip").train(job([row(0), row(1)]))
    log = [json.loads(line) for line in (result.checkpoint.parent / "training_log.jsonl").read_text().splitlines()]
    assert result.metrics["skipped_steps"] == 2
    assert [step["loss"] is None for step in log] == [False, True, True]


@pytest.fixture
def loaded(model_folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    def write(new: Path) -> None:
        new.mkdir(parents=True)
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)

    checkpoint.export(write, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_save_that_fails_leaves_the_last_good_checkpoint(loaded: Any, tmp_path: Path) -> None:
    import resource

    folder = tmp_path / "out" / "checkpoint"
    save(*loaded, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses what the weights need
    try:
        with pytest.raises(StageError, match="the last good checkpoint is still in"):
            save(*loaded, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("moved_aside", [False, True])
def test_a_save_killed_at_any_point_leaves_a_whole_checkpoint(loaded: Any, tmp_path: Path, moved_aside: bool) -> None:
    folder = tmp_path / "checkpoint"
    save(*loaded, folder)
    shutil.copytree(folder, tmp_path / "checkpoint.new")
    if moved_aside:
        folder.rename(tmp_path / "checkpoint.old")
    else:
        (tmp_path / "checkpoint.new" / "model.safetensors").write_bytes(b"half")
    checkpoint.recover(folder)
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint"]
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0


def test_a_checkpoint_on_the_way_is_replaced_by_the_next(job, row) -> None:
    reports: list[Any] = []
    trainer(max_steps=5, save_every=2).train(job([row(0), row(1)], report=reports.append))
    assert [r["step"] for r in reports if r.get("phase") == "saving"] == [2, 4, 5]
