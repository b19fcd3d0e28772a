"""That DPO really learns: planted preferences, held out.

A tiny Llama is first taught to copy eight symbols from its context. Chosen answers are faithful copies, rejected ones
have two of the eight corrupted.

The base model has converged on copies of which a tenth of the symbols is wrong, so that it copies but is unsure. That
matters: of 24 runs with λ = 0.1 on such bases (three seeds, four sets of pairs, learning rates 1e-4 and 3e-4) all kept
the chosen answers above the reference policy. On bases stopped after some 50 steps, while they were still learning to
copy, 4 of about 75 runs ended below it, at 1e-4 and at 3e-4. Without the cross-entropy term more did, and lower. So the
second assertion of the first test is about a policy that has been fine-tuned; it is no law.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from copying_model import LENGTH, SYMBOLS, tokenizer, write_copier
from lrf.protocols import TrainingJob, TrainingResult
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def task(source: random.Random) -> tuple[str, str, str]:
    """What to copy, a faithful copy, and one with two symbols corrupted."""
    text = source.choices(SYMBOLS, k=LENGTH)
    corrupt = list(text)
    for place in source.sample(range(LENGTH), 2):
        corrupt[place] = source.choice([s for s in SYMBOLS if s != text[place]])
    return "".join(text), "".join(text), "".join(corrupt)


@pytest.fixture(scope="module", params=[0, 2], ids="base {}".format)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that copies, but is unsure: it was taught with a tenth of the symbols replaced."""
    return write_copier(tmp_path_factory.mktemp("base"), seed=request.param, steps=400, wrong=0.1)


def train(base: Path, folder: Path, *, share_swapped: float) -> TrainingResult:
    source = random.Random(1)
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(200 * 16):
            text, *answers = task(source)
            if source.random() < share_swapped:
                answers.reverse()
            chosen, rejected = ([{"role": "assistant", "content": a}] for a in answers)
            row = {"prompt": [{"role": "user", "content": text}], "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")
    settings = DPOSettings.model_validate({"learning_rate": 1e-4, "micro_batch": 16, "gradient_checkpointing": False})
    job = TrainingJob(folder / "pairs.jsonl", folder / "out", model=str(base), seed=0, prompt_template_sha256="")
    return DPO(settings).train(job)


def answers_log_probs(folder: Path) -> torch.Tensor:
    """(2, 500): log π of held-out chosen and rejected answers."""
    from transformers import AutoModelForCausalLM

    model, source = AutoModelForCausalLM.from_pretrained(folder), random.Random(2)
    columns: list[list[list[int]]] = [[], []]
    for _ in range(500):
        text, *answers = task(source)
        for column, answer in zip(columns, answers, strict=True):
            column.append(tokenizer()(f"{text}={answer};")["input_ids"])
    values = []
    for column in columns:
        ids = torch.tensor(column)
        with torch.no_grad():
            log_probs = model(ids).logits[:, LENGTH:-1].log_softmax(-1)
        values.append(log_probs.gather(2, ids[:, LENGTH + 1 :, None]).sum((1, 2)))
    return torch.stack(values)


def test_planted_preferences_are_learnt_and_chosen_answers_stay_likely(base: Path, tmp_path: Path) -> None:
    before, after = answers_log_probs(base), answers_log_probs(train(base, tmp_path, share_swapped=0).checkpoint)
    rewards = 0.15 * (after - before)
    assert (rewards[0] > rewards[1]).float().mean() >= 0.95
    assert after[0].mean() >= before[0].mean()


@pytest.mark.parametrize("base", [0], indirect=True, ids="base {}".format)
def test_shuffled_labels_teach_no_margin(base: Path, tmp_path: Path) -> None:
    before, after = answers_log_probs(base), answers_log_probs(train(base, tmp_path, share_swapped=0.5).checkpoint)
    margins = 0.15 * ((after - before)[0] - (after - before)[1])
    assert abs(float(margins.mean())) < 0.15
