"""Attention in parts against one softmax over everything, with a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from lrf_training import split_attention
from lrf_training.prefix_sharing import PrefixSharing, answer_log_probs, share_prompts
from lrf_training.split_attention import answers_attention

PROMPT, LENGTHS = 37, (5, 1, 70)


def masked(q: Any, prompt_k: Any, prompt_v: Any, k: Any, v: Any, *_: Any) -> torch.Tensor:
    """The same attention by one mask of all answers' tokens times all keys."""
    total, groups = sum(LENGTHS), q.shape[1] // k.shape[1]
    answer = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    own = (answer[:, None] == answer[None]) & torch.ones(total, total, dtype=torch.bool).tril()
    mask = torch.cat((torch.ones(total, PROMPT, dtype=torch.bool), own), dim=1)
    k, v = (torch.cat(pair, dim=2).repeat_interleave(groups, 1) for pair in ((prompt_k, k), (prompt_v, v)))
    scores = (q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("kernels", ["merged", "concatenated"])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_output_and_gradients_are_those_of_one_masked_softmax(
    monkeypatch: pytest.MonkeyPatch, kernels: str, key_heads: int
) -> None:
    if kernels == "merged":
        assert split_attention._merges(torch.device("cpu"), torch.float64, 8)
    else:
        monkeypatch.setattr(split_attention, "_merges", lambda *_: False)
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, sum(LENGTHS)), *((key_heads, PROMPT),) * 2, *((key_heads, sum(LENGTHS)),) * 2)
    inputs = [2 * torch.randn(1, heads, n, 8, generator=generator, dtype=torch.float64) for heads, n in shapes]
    weights = torch.randn(1, 4, sum(LENGTHS), 8, generator=generator, dtype=torch.float64)
    for tensor in inputs:
        tensor.requires_grad_()
    outputs = [attend(*inputs, LENGTHS, None) for attend in (answers_attention, masked)]
    gradients = [torch.autograd.grad((o * weights).sum(), inputs) for o in outputs]
    torch.testing.assert_close(*outputs)
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected)


def test_log_probs_of_many_answers_are_those_of_each_alone() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    model: Any = LlamaForCausalLM(config)
    prompts = [torch.randint(50, (n,)).tolist() for n in (20, 3)]
    sequences = [(prompts[i % 2], torch.randint(50, (1 + 2 * i,)).tolist()) for i in range(6)]
    sequences.append(sequences[0])
    expected = []
    for prompt, answer in sequences:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0])
    expected_gradients = torch.autograd.grad(torch.cat(expected).square().sum(), list(model.parameters()))

    add_fused_lm_head(model)
    PrefixSharing(model)
    log_probs = answer_log_probs(model, share_prompts(sequences, pad_token_id=0))
    torch.testing.assert_close(log_probs, torch.nn.utils.rnn.pad_sequence(expected, batch_first=True))
    gradients = torch.autograd.grad(log_probs.square().sum(), list(model.parameters()))
    mine, of_each_alone = (torch.cat([g.flatten() for g in of]) for of in (gradients, expected_gradients))
    assert (mine - of_each_alone).norm() < 1e-5 * of_each_alone.norm()


def test_the_first_pass_may_be_one_whose_activations_are_computed_again() -> None:
    """The kernels are tried in it; a layer's checkpoint must not take what the trial keeps for the layer's own."""
    split_attention._merges.cache_clear()
    inputs = [torch.randn(1, 2, n, 8, requires_grad=True) for n in (5, 9, 9, 5, 5)]
    torch.utils.checkpoint.checkpoint(answers_attention, *inputs, (3, 2), None, use_reentrant=False).sum().backward()
    assert all(tensor.grad is not None for tensor in inputs)
