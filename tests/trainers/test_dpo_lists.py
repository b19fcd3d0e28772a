"""Training on all scored candidates of a prompt: the objective by hand, what is left out, resuming, adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from trl import DPOConfig

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_dpo.batches import ListCollator, padded
from lrf_dpo.objective import DPOWithCETrainer
from lrf_dpo.rows import TOO_LONG, PreferenceRow, answers_of, encode, token_row
from lrf_dpo.settings import CE, DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.list_losses import all_pairs, plackett_luce
from lrf_training.models import new_model, new_tokenizer, set_chat_template
from lrf_training.prefix_sharing import PrefixSharing, share_prompts
from lrf_training.settings import Init
from lrf_training.tokens import Rules, TokenCounts, write_tokens

INIT = Init(hidden=16, layers=2, heads=2, vocab=300)
LISTS = [
    ([5, 6, 7, 8, 9], [[10, 11], [12, 13, 14], [15], [16, 17]], [9.0, 7.0, 6.5, 1.0]),
    ([20, 21], [[22, 23, 24], [25], [26, 27]], [3.0, 8.0, 8.0]),
]
LOSSES = {
    "all_pairs": partial(all_pairs, margin=1.0, weighted=True),
    "listwise": plackett_luce,
}


def by_hand(policy: Any, reference: Any, loss: Any, ce: CE) -> torch.Tensor:
    """A list at a time, an answer at a time, full logits."""
    preferences, nll = [], []

    def log_probs(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].double()

    for prompt, answers, rewards in LISTS:
        of_policy = [log_probs(policy, prompt, answer) for answer in answers]
        with torch.no_grad():
            of_reference = [log_probs(reference, prompt, answer).sum() for answer in answers]
        implicit = torch.stack([0.15 * (p.sum() - r) for p, r in zip(of_policy, of_reference, strict=True)])
        preferences.append(loss(implicit, torch.tensor(rewards, dtype=torch.float64)))
        nll.append(-of_policy[rewards.index(max(rewards))])
    return torch.stack(preferences).mean() + ce.weight * torch.cat(nll).mean()


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_of_lists_are_those_by_hand(tmp_path: Path, name: str, shared: bool) -> None:
    tokenizer, ce = new_tokenizer(["x"], INIT), CE()
    policy, reference = (new_model(tokenizer, INIT, window=64, seed=seed) for seed in (1, 2))
    for parameter in policy.parameters():
        parameter.data.mul_(4)
    expected = by_hand(policy, reference, LOSSES[name], ce)
    expected_gradients = torch.autograd.grad(expected, list(policy.parameters()))
    rows = [columns | numbers for columns, numbers in (token_row(*each) for each in LISTS)]
    trainer = DPOWithCETrainer(
        ce=ce,
        preference=LOSSES[name],
        args=DPOConfig(
            str(tmp_path),
            beta=0.15,
            max_length=None,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        model=policy,
        ref_model=reference,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        data_collator=ListCollator(share_prompts if shared else padded, tokenizer.pad_token_id),
    )
    for model in (policy, reference) if shared else ():
        PrefixSharing(model)
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    gradients = torch.autograd.grad(loss, list(policy.parameters()))
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    mine, hand = (torch.cat([g.flatten() for g in each]) for each in (gradients, expected_gradients))
    assert (mine - hand).norm() < 1e-5 * hand.norm()


TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320},
    "loss": "listwise",
    "global_batch": 2,
    "learning_rate": 1e-3,
    "epochs": 2,
    "save_every": 2,
}


def list_row(number: int, rewards: tuple[float | None, ...] = (9, 5.5, 2), **fields: Any) -> dict[str, Any]:
    candidates = [
        {"id": str(n), "messages": [{"role": "assistant", "content": f"answer {number} {n * n}"}], "reward": reward}
        for n, reward in enumerate(rewards)
    ]
    return {
        "prompt": [{"role": "user", "content": f"question {number} " * 5}],
        "candidates": candidates,
        "sample_id": f"s{number}",
    } | fields


@pytest.fixture
def list_job(tmp_path: Path) -> Callable[..., TrainingJob]:
    def make(rows: list[dict[str, Any]], output: str = "out", **fields: Any) -> TrainingJob:
        lists = tmp_path / "lists.jsonl"
        lists.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return TrainingJob(tmp_path / "none", tmp_path / output, fields.pop("model", ""), 7, "", lists=lists, **fields)

    return make


def train(job: TrainingJob, **settings: Any) -> Any:
    return DPO(DPOSettings.model_validate(TINY | settings)).train(job)


def test_what_is_in_a_list_but_cannot_be_trained_on_is_counted(list_job: Any) -> None:
    rows = [list_row(0, (7.1, 6.6, 2)), list_row(1, (9, None, 2)), list_row(2, (None, None, 2)), list_row(3, (4, 4, 4))]
    rows[0]["candidates"][2]["messages"][0]["content"] = " "
    rows[1]["candidates"].append(rows[1]["candidates"][0] | {"reward": 1})
    metrics = train(list_job(rows), on_bad_pair="drop", max_lost=0.5, margin=0.5).metrics
    assert (metrics["lists"], metrics["lost_lists"]) == (2, 2)
    assert metrics["lost_by_reason"] == {
        "fewer than two different answers with a reward": 1,
        "no two rewards differ enough": 1,
    }
    assert [metrics[f"{name}_answers"] for name in ("unscored", "empty", "same")] == [1, 1, 1]
    assert "1 empty answers are left out of the lists" in metrics["notes"]


def test_of_a_list_only_the_answers_that_are_too_long_are_left_out(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(["x"], INIT)
    set_chat_template(tokenizer, None)

    def row(rewards: tuple[float, ...], words: tuple[int, ...]) -> PreferenceRow:
        answers = [[{"role": "assistant", "content": "x" * count}] for count in words]
        return PreferenceRow("here", [{"role": "user", "content": "?"}], answers, rewards, pair=False)

    whole, one_left, alike = row((9, 7, 5), (4, 90, 8)), row((9, 7), (4, 90)), row((9, 7, 7), (90, 4, 8))
    rows, into = [whole, one_left, alike], tmp_path / "tokens"

    def write(on_too_long: str) -> TokenCounts:
        rules = Rules("stop", on_too_long, 0.9, 60, "max_tokens")
        return write_tokens(rows, lambda each: encode(each, tokenizer), rules, into, what="lists", source=into)

    with pytest.raises(StageError, match=r"here: prompt and answer have .* more than max_tokens"):
        write("stop")
    counts = write("drop")
    (kept,) = Dataset.from_file(str(into)).to_list()
    assert [kept["rewards"], [len(answer) < 20 for answer in answers_of(kept)]] == [[9.0, 5.0], [True, True]]
    assert (+counts.extra, counts.lost_by_reason) == ({TOO_LONG: 1}, {"longer than max_tokens": 2})
    assert counts.lost_tokens + counts.tokens == sum(encode(each, tokenizer).tokens for each in rows)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (list_row(0, (float("nan"), 1)), "reward must be a finite number or null"),
        (list_row(0, candidates=None), "candidates must be a list"),
        (list_row(0, (1, 1)), "no two rewards differ enough; lower margin"),
        (list_row(0, prompt_template_sha256="other"), "made with the template other"),
    ],
)
def test_a_row_that_is_no_list_stops_and_is_named(list_job: Any, row: Any, problem: str) -> None:
    with pytest.raises(StageError, match=rf"lists.jsonl:1 \(sample s0\): .*{problem}"):
        train(list_job([row]))


class StopError(Exception):
    pass


def test_a_training_on_lists_that_was_stopped_resumes_to_the_same_weights(list_job: Any) -> None:
    rows = [list_row(n, (9, 5.5, 2, 1)[: 2 + n % 3]) for n in range(8)]

    def stop(progress: Any) -> None:
        if progress.get("step") == 5 and "loss" in progress:
            raise StopError

    whole = train(list_job(rows))
    with pytest.raises(StopError):
        train(list_job(rows, "stopped", report=stop))
    resumed = train(list_job(rows, "stopped"))
    weights = [(result.checkpoint / "model.safetensors").read_bytes() for result in (whole, resumed)]
    assert weights[0] == weights[1]
    log = [json.loads(line) for line in (resumed.checkpoint.parent / "training_log.jsonl").open()]
    assert all(0 <= line["accuracy"] <= 1 for line in log)
    assert log[-1]["margin"] > 0.005 > abs(log[0]["margin"])


@pytest.mark.slow
def test_adapters_switched_off_are_the_reference_that_is_stored(list_job: Any, tmp_path: Path) -> None:
    tokenizer = new_tokenizer(["question answer 1 2 3"], INIT)
    new_model(tokenizer, INIT, window=512, seed=1).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = {"init": None, "loss": "all_pairs", "lora": {"rank": 2}, "max_steps": 3, "learning_rate": 1e-2}
    rows = [list_row(n) for n in range(4)]
    losses = []
    for reference in ("adapter_off", "stored"):
        result = train(list_job(rows, reference, model=str(tmp_path / "base")), **settings, reference=reference)
        losses.append([json.loads(line)["loss"] for line in (result.checkpoint.parent / "training_log.jsonl").open()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses[0][2] < losses[0][0] - 1e-3


def test_a_margin_without_lists_is_refused() -> None:
    with pytest.raises(ValidationError, match="margin is for loss: all_pairs and listwise"):
        DPOSettings(margin=1)
