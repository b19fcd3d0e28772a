"""That online training really learns, from data to policy, with a judge behind HTTP.

A tiny Llama was taught to copy eight symbols, but badly: half of the symbols in its lessons were wrong. The judge rates
a copy by its share of right symbols. Prompts that are held out show what was learnt.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lrf
from copying_model import LENGTH, SYMBOLS, tokenizer, write_copier
from judge_server import JudgeServer
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.context import StageContext
from lrf.stages.run_dir import RunDir
from lrf.stages.train.prompts import write_prompts
from lrf.stages.train.stage import train_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Train = Callable[[dict[str, Any], Path], dict[str, Any]]
STEPS, BATCH, GROUP = 40, 8, 8


def rating(text: str, copy: str) -> float:
    """0 to 10: the share of symbols that are right at their place, less for symbols too many."""
    right = sum(a == b for a, b in zip(text, copy, strict=False))
    return 10 * right / max(LENGTH, len(copy))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that copies half of the symbols."""
    return write_copier(tmp_path_factory.mktemp("base"), seed=0, steps=200, wrong=0.5, layers=1, batch=32, lr=5e-3)


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


def pipeline_of(folder: Path, base: Path, server: JudgeServer, **train: Any) -> dict[str, Any]:
    source = random.Random(1)
    rows = [{"id": str(n), "context": "-", "query": "".join(source.choices(SYMBOLS, k=LENGTH))} for n in range(320)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "type": "grpo",
        "global_batch": BATCH,
        "group": GROUP,
        "answer_tokens": 12,
        "learning_rate": 1e-3,
        "scheduler": "constant",
        "gradient_checkpointing": False,
        "micro_batch": BATCH,
        "max_steps": STEPS,
    }
    return {
        "name": "copy",
        "data": {"type": "jsonl", "path": str(folder / "data.jsonl")},
        "judges": {"main": {"type": "openai", "base_url": server.base_url, "model": "sim", "max_concurrency": 32}},
        "dimensions": ["helpfulness"],
        "policy": {"model": str(base), "prompt_template": "<<question>>"},
        "train": settings | train,
    }


def by_lrf_run(pipeline: dict[str, Any], runs: Path) -> dict[str, Any]:
    """The stage's figures."""
    summary = lrf.run(pipeline, runs=runs)
    assert summary.status == "finished", summary.message
    return dict(summary.stages["train"])


def in_this_process(pipeline: dict[str, Any], runs: Path) -> dict[str, Any]:
    """What the stage's process does, without the seconds that a process of its own takes to begin."""
    parsed, run = parse_pipeline(pipeline, load_catalog()), RunDir(runs / "copy")
    run.path.mkdir(parents=True)
    context = StageContext(parsed, load_catalog(), run, log=None, report=lambda _: None)
    write_prompts(context)
    context.observers.close()
    assert parsed.train is not None
    figures: dict[str, Any] = train_here(parsed, parsed.train, run, lambda _: None)
    return figures | {"calls": figures["costs"]["usage"]["calls"], "answers": figures["costs"]["answers"]}


@pytest.mark.parametrize(
    ("train", "settings"),
    [(by_lrf_run, {}), (in_this_process, {"method": "online_dpo", "beta": 0.1})],
    ids=["grpo", "online DPO"],
)
def test_a_policy_that_copies_badly_learns_to_copy_from_its_rewards(
    train: Train, settings: dict[str, Any], base: Path, tmp_path: Path, judge_server: JudgeServer
) -> None:
    def reply(prompt: str, _: float) -> str:
        text, copy = re.findall(r"<question>\n(.*?)\n</question>\n<answer>\n(.*?)\n?</answer>", prompt, re.DOTALL)[-1]
        return f"Rating: [[{rating(text, copy.strip()):.1f}]]"

    judge_server.reply = reply
    before = held_out_reward(base)
    figures = train(pipeline_of(tmp_path, base, judge_server, **settings), tmp_path)
    gained = held_out_reward(tmp_path / "copy" / "policy" / "grpo" / "checkpoint") - before
    assert gained >= 3.0
    assert figures["calls"] == judge_server.books.calls - judge_server.books.repeated
    assert figures["answers"] == STEPS * BATCH * GROUP


@pytest.mark.parametrize("settings", [{}, {"method": "online_dpo", "beta": 0.1}], ids=["grpo", "online DPO"])
def test_a_judge_that_rates_all_answers_alike_moves_nothing(
    settings: dict[str, Any], base: Path, tmp_path: Path, judge_server: JudgeServer
) -> None:
    judge_server.reply = lambda *_: "Rating: [[5]]"
    in_this_process(pipeline_of(tmp_path, base, judge_server, max_steps=5, **settings), tmp_path)
    assert held_out_reward(tmp_path / "copy" / "policy" / "grpo" / "checkpoint") == held_out_reward(base)
