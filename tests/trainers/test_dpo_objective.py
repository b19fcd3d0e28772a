"""The loss against one written out by hand: a pair at a time, no padding, full logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from trl import DPOConfig

from lrf_dpo.objective import DPOWithCETrainer
from lrf_dpo.rows import token_row
from lrf_dpo.settings import CE
from lrf_training.models import new_model, new_tokenizer
from lrf_training.settings import Init

TINY = Init(hidden=16, layers=2, heads=2, vocab=300)
PAIRS = [
    {"prompt_ids": [5, 6, 7, 8, 9], "chosen_ids": [10, 11, 12], "rejected_ids": [13, 14, 15, 16, 17, 18]},
    {"prompt_ids": [20, 21], "chosen_ids": [22, 23, 24, 25, 26, 27, 28], "rejected_ids": [29]},
    {"prompt_ids": [30, 31, 32, 33], "chosen_ids": [34], "rejected_ids": [35, 36]},
]


def token_log_probs(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """(answer,): log π of each token of the answer."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def by_hand(policy: Any, reference: Any, beta: float, ce: CE) -> torch.Tensor:
    dpo, nll = [], []
    for pair in PAIRS:
        prompt = pair["prompt_ids"]
        chosen, rejected = (token_log_probs(policy, prompt, pair[name]) for name in ("chosen_ids", "rejected_ids"))
        with torch.no_grad():
            ref_chosen, ref_rejected = (
                token_log_probs(reference, prompt, pair[name]).sum() for name in ("chosen_ids", "rejected_ids")
            )
        dpo.append(-logsigmoid(beta * ((chosen.sum() - ref_chosen) - (rejected.sum() - ref_rejected))))
        nll.append(-chosen)
    term = {
        "token_mean": torch.cat(nll).mean(),
        "seq_mean": torch.stack([n.mean() for n in nll]).mean(),
        "sum": torch.stack([n.sum() for n in nll]).mean(),
    }[ce.reduction]
    return torch.stack(dpo).mean() + ce.weight * term


@pytest.mark.parametrize("reduction", ["token_mean", "seq_mean", "sum"])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_loss_and_gradients_are_dpo_plus_the_cross_entropy_term(tmp_path: Path, reduction: Any, weight: float) -> None:
    ce = CE(weight=weight, reduction=reduction)
    tokenizer = new_tokenizer(["x"], TINY)
    policy, reference = (new_model(tokenizer, TINY, window=64, seed=seed) for seed in (1, 2))
    for parameter in policy.parameters():  # far enough from one another that DPO is far from log 2
        parameter.data.mul_(4)
    expected = by_hand(policy, reference, beta=0.15, ce=ce)
    expected_gradients = torch.autograd.grad(expected, list(policy.parameters()))

    encoded = (token_row(pair["prompt_ids"], [pair["chosen_ids"], pair["rejected_ids"]]) for pair in PAIRS)
    rows = [columns | numbers for columns, numbers in encoded]
    trainer = DPOWithCETrainer(
        ce=ce,
        args=DPOConfig(
            str(tmp_path),
            beta=0.15,
            max_length=None,
            per_device_train_batch_size=len(PAIRS),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        model=policy,
        ref_model=reference,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    loss = trainer.compute_loss(policy, trainer.data_collator(rows))
    gradients = torch.autograd.grad(loss, list(policy.parameters()))

    assert abs(float(loss) - 0.6931) > 1e-3
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    for gradient, by_hand_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, by_hand_gradient, rtol=1e-4, atol=1e-5)
