"""A tiny Llama that was taught to copy eight symbols, but not without mistakes: what tests of learning begin with."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEF"
LENGTH = 8
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}={% else %};{% endif %}{% endfor %}"


@cache
def tokenizer() -> Any:
    """A token for each symbol; "=" ends what is to be copied, ";" the copy."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "=", ";", *SYMBOLS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token=";")
    fast.chat_template = TEMPLATE
    return fast


def write_copier(
    folder: Path,
    *,
    seed: int,
    steps: int,
    wrong: float,
    heads: int = 4,
    layers: int = 2,
    batch: int = 64,
    lr: float = 3e-3,
) -> Path:
    """A model in this folder, taught in so many steps by copies of which this share of the symbols is wrong."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    model, source = LlamaForCausalLM(config), random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        ids = torch.tensor([_lesson(source, wrong) for _ in range(batch)])
        logits = model(ids).logits[:, LENGTH:-1]
        loss = cross_entropy(logits.flatten(0, 1), ids[:, LENGTH + 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def _lesson(source: random.Random, wrong: float) -> list[int]:
    text = source.choices(SYMBOLS, k=LENGTH)
    copy = [source.choice(SYMBOLS) if source.random() < wrong else symbol for symbol in text]
    ids: list[int] = tokenizer()(f"{''.join(text)}={''.join(copy)};")["input_ids"]
    return ids
