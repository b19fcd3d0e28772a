"""That GRPO really learns, from data to policy, with a judge behind HTTP.

A tiny Llama was taught to copy eight symbols, but badly: half of the symbols in its lessons were wrong. The judge rates
a copy by its share of right symbols. Prompts that are held out show what was learnt.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lrf
from copying_model import LENGTH, SYMBOLS, tokenizer, write_copier
from judge_server import JudgeServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def rating(text: str, copy: str) -> float:
    """0 to 10: the share of symbols that are right at their place, less for symbols too many."""
    right = sum(a == b for a, b in zip(text, copy, strict=False))
    return 10 * right / max(LENGTH, len(copy))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that copies half of the symbols."""
    return write_copier(tmp_path_factory.mktemp("base"), seed=0, steps=600, wrong=0.5)


def held_out_reward(folder: Path) -> float:
    """The mean rating of an answer to each of 200 prompts that no training has, at temperature 1."""
    from transformers import AutoModelForCausalLM

    model, source = AutoModelForCausalLM.from_pretrained(folder), random.Random(2)
    texts = ["".join(source.choices(SYMBOLS, k=LENGTH)) for _ in range(200)]
    ids = torch.tensor([tokenizer()(f"{text}=")["input_ids"] for text in texts])
    torch.manual_seed(0)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=12)
    answers = tokenizer().batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    return sum(rating(*pair) for pair in zip(texts, answers, strict=True)) / len(texts)


def run(folder: Path, base: Path, server: JudgeServer, **train: Any) -> tuple[Path, Any]:
    """The trainer's folder, and the run's summary."""
    source = random.Random(1)
    rows = [{"id": str(n), "context": "-", "query": "".join(source.choices(SYMBOLS, k=LENGTH))} for n in range(512)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "type": "grpo",
        "global_batch": 16,
        "group": 8,
        "answer_tokens": 12,
        "learning_rate": 1e-3,
        "scheduler": "constant",
        "gradient_checkpointing": False,
        "micro_batch": 16,
        "max_steps": 60,
    }
    pipeline = {
        "name": "copy",
        "data": {"type": "jsonl", "path": str(folder / "data.jsonl")},
        "judges": {"main": {"type": "openai", "base_url": server.base_url, "model": "sim", "max_concurrency": 32}},
        "dimensions": ["helpfulness"],
        "policy": {"model": str(base), "prompt_template": "<<question>>"},
        "train": settings | train,
    }
    summary = lrf.run(pipeline, runs=folder / "runs")
    assert summary.status == "finished", summary.message
    return folder / "runs" / "copy" / "policy" / "grpo", summary


def test_a_policy_that_copies_badly_learns_to_copy_from_its_rewards(
    base: Path, tmp_path: Path, judge_server: JudgeServer
) -> None:
    def reply(prompt: str, _: float) -> str:
        text, copy = re.findall(r"<question>\n(.*?)\n</question>\n<answer>\n(.*?)\n?</answer>", prompt, re.DOTALL)[-1]
        return f"Rating: [[{rating(text, copy.strip()):.1f}]]"

    judge_server.reply = reply
    before = held_out_reward(base)
    policy, summary = run(tmp_path, base, judge_server)
    after = held_out_reward(policy / "checkpoint")
    assert after - before >= 3, (before, after)
    figures = summary.stages["train"]
    assert figures["calls"] == judge_server.books.calls - judge_server.books.repeated
    assert figures["answers"] == 60 * 16 * 8


def test_a_judge_that_rates_all_answers_alike_moves_nothing(
    base: Path, tmp_path: Path, judge_server: JudgeServer
) -> None:
    judge_server.reply = lambda *_: "Rating: [[5]]"
    policy, _ = run(tmp_path, base, judge_server, max_steps=10)
    assert held_out_reward(policy / "checkpoint") == held_out_reward(base)
