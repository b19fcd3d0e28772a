"""Answers written by transformers: the prompt goes through the model once for its group."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache


def write_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    group: int,
    config: Any,
    stop_ids: Sequence[int],
    *,
    seeds: Callable[[int], Sequence[int]],
) -> list[list[int]]:
    """Token ids of an answer to each prompt, the token that ends it included. Prompts come in groups of equal ones.

    ``seeds`` gives numbers that decide a group's answers, by the group's number. They depend on nothing else: not on
    other groups, nor on how many processes share them. The random generators are left as they were.
    """
    answers: list[list[int]] = []
    device = model.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for number, start in enumerate(range(0, len(prompts), group)):
            torch.manual_seed(seed_of(seeds(number)))
            answers += _group(model, prompts[start], group, config, stop_ids, device)
    return answers


def _group(
    model: Any, prompt: Sequence[int], group: int, config: Any, stop_ids: Sequence[int], device: Any
) -> list[list[int]]:
    ids = torch.tensor([list(prompt)], device=device)  # (1, prompt)
    inputs: dict[str, Any] = {"input_ids": ids.expand(group, -1)}  # (group, prompt)
    if ids.shape[1] > 1:
        cache = DynamicCache(config=model.config.get_text_config())
        model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(group)
        inputs["past_key_values"] = cache
    mask = torch.ones_like(inputs["input_ids"])
    written = model.generate(**inputs, attention_mask=mask, generation_config=config)[:, ids.shape[1] :]
    return [_until_end(row, stop_ids) for row in written.tolist()]


def _until_end(answer: list[int], stop_ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(answer) if token in stop_ids), len(answer))
    return answer[: end + 1]


def seed_of(numbers: Sequence[int]) -> int:
    """A seed below 2^63 that these numbers decide."""
    return int.from_bytes(hashlib.sha256(repr(list(numbers)).encode()).digest()[:8], "big") >> 1
