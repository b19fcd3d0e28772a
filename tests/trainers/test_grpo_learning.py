"""That GRPO really learns, from data to policy, with a judge behind HTTP.

A tiny Llama was taught to copy eight symbols, but badly: half of the symbols in its lessons were wrong. The judge rates
a copy by its share of right symbols. Prompts that are held out show what was learnt.
"""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import lrf
from judge_server import JudgeServer

SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEF"
LENGTH = 8
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}={% else %};{% endif %}{% endfor %}"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def rating(text: str, copy: str) -> float:
    """0 to 10: the share of symbols that are right at their place, less for symbols too many."""
    right = sum(a == b for a, b in zip(text, copy, strict=False))
    return 10 * right / max(LENGTH, len(copy))


@cache
def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "=", ";", *SYMBOLS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token=";")
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that copies half of the symbols."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    model, source = LlamaForCausalLM(config), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=600)
    for _ in range(600):
        ids = torch.tensor([lesson(source) for _ in range(64)])
        logits = model(ids).logits[:, LENGTH:-1]
        loss = cross_entropy(logits.flatten(0, 1), ids[:, LENGTH + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def lesson(source: random.Random) -> list[int]:
    text = source.choices(SYMBOLS, k=LENGTH)
    copy = [source.choice(SYMBOLS) if source.random() < 0.5 else symbol for symbol in text]
    ids: list[int] = tokenizer()(f"{''.join(text)}={''.join(copy)};")["input_ids"]
    return ids


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
