"""Attention over a prompt and its answers, where no masked block is computed and no prompt is copied.

The prompt attends to itself causally. The answers' queries attend to the prompt's keys in one call without a mask, and
each answer to itself causally; the two parts of a softmax are merged by their log-sum-exps. The backward pass runs the
flash kernels' own with the merged output and log-sum-exp, from which they make each part's probabilities again
(FlashAttention-2, arXiv 2307.08691, section 3.1; used the same way by Ring Attention, arXiv 2310.01889). So an answer
keeps nothing of its prompt's length in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import checkpoint

Lengths = tuple[int, ...]

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_backward
_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def prompt_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """Causal attention of a prompt to itself. ``q`` is (1, heads, prompt, size); ``k`` and ``v`` may have fewer heads.

    Returns (1, heads, prompt, size).
    """
    if q.is_cuda and q.dtype == torch.float32:  # no flash kernel; others build length² if heads differ
        k, v = _repeat_heads(q, k, v)
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])


def answers_attention(
    q: torch.Tensor,
    prompt_k: torch.Tensor,
    prompt_v: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: Lengths,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of a prompt's answers: each to the whole prompt and, causally, to itself.

    Parameters
    ----------
    q: (1, heads, tokens of all answers, size).
    prompt_k, prompt_v: (1, key heads, prompt, size).
    k, v: (1, key heads, tokens of all answers, size).
    lengths: of the answers.

    Returns (1, heads, tokens of all answers, size).
    """
    if q.shape[-1] == v.shape[-1] and _merges(q.device, q.dtype, q.shape[-1]):
        return _merged(q, prompt_k, prompt_v, k, v, lengths, scaling)
    return _concatenated(q, prompt_k, prompt_v, k, v, lengths, scaling)


def _merged(*inputs: Any) -> torch.Tensor:
    output: torch.Tensor = _MergedAttention.apply(*inputs)  # type: ignore[no-untyped-call]  # torch says no types
    return output


class _MergedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        prompt_k: torch.Tensor,
        prompt_v: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        lengths: Lengths,
        scaling: float | None,
    ) -> torch.Tensor:
        heads = prompt_k.shape[1]
        to_prompt, prompt_lse = _flash(_fold(q, heads), prompt_k, prompt_v, False, scaling)
        to_prompt, prompt_lse = to_prompt.reshape(q.shape), prompt_lse.reshape(q.shape[:3])
        own, own_lse = torch.empty_like(to_prompt), torch.empty_like(prompt_lse)
        for span in _spans(lengths):
            part = _repeat_heads(q, k[:, :, span], v[:, :, span])
            own[:, :, span], own_lse[:, :, span] = _flash(q[:, :, span], *part, True, scaling)
        lse = torch.logaddexp(prompt_lse, own_lse)
        weight = (prompt_lse - lse).exp()[..., None]
        output = torch.lerp(own.to(weight.dtype), to_prompt.to(weight.dtype), weight).to(q.dtype)
        ctx.save_for_backward(q, prompt_k, prompt_v, k, v, output, lse)
        ctx.lengths, ctx.scaling = lengths, scaling
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        q, prompt_k, prompt_v, k, v, output, lse = ctx.saved_tensors
        heads, scaling = prompt_k.shape[1], ctx.scaling
        gradient = gradient.to(q.dtype)
        folded = [_fold(t, heads) for t in (gradient, q, output)]
        of_q, of_prompt_k, of_prompt_v = _flash_backward(
            folded, prompt_k, prompt_v, lse.reshape(1, heads, -1), False, scaling
        )
        of_q = of_q.reshape(q.shape).contiguous()
        of_k, of_v = torch.empty_like(k), torch.empty_like(v)
        for span in _spans(ctx.lengths):
            part = _repeat_heads(q, k[:, :, span], v[:, :, span])
            slices = [t[:, :, span] for t in (gradient, q, output)]
            mine, part_k, part_v = _flash_backward(slices, *part, lse[:, :, span].contiguous(), True, scaling)
            of_q[:, :, span] += mine
            for target, source in ((of_k, part_k), (of_v, part_v)):
                target[:, :, span] = source.view(1, heads, -1, *source.shape[2:]).sum(2)
        return of_q, of_prompt_k, of_prompt_v, of_k, of_v, None, None


def _flash(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scaling: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (1, heads, queries, size) and log-sum-exp (1, heads, queries), float32 at least."""
    if q.is_cuda:
        output, lse, *_ = _FLASH(q, k, v, 0.0, causal, scale=scaling)
    else:
        output, lse = _CPU(q, k, v, 0.0, causal, scale=scaling)
    return output, lse


def _flash_backward(
    queries: Sequence[torch.Tensor],
    k: torch.Tensor,
    v: torch.Tensor,
    lse: torch.Tensor,
    causal: bool,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q, k and v; ``queries`` are the output's gradient, q and the output."""
    gradient, q, output = queries
    if q.is_cuda:
        seed = torch.empty(2, dtype=torch.uint64, device=q.device)  # of dropout, which there isn't
        lengths = (None, None, q.shape[2], k.shape[2])
        gradients = _FLASH_BACKWARD(gradient, q, k, v, output, lse, *lengths, 0.0, causal, seed, seed, scale=scaling)
    else:
        gradients = _CPU_BACKWARD(gradient, q, k, v, output, lse, 0.0, causal, scale=scaling)
    of_q, of_k, of_v = gradients
    return of_q, of_k, of_v


def _concatenated(
    q: torch.Tensor,
    prompt_k: torch.Tensor,
    prompt_v: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: Lengths,
    scaling: float | None,
) -> torch.Tensor:
    """The same for any device: each answer with a copy of its prompt's keys and values, made anew to go backward."""

    def one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        both = _repeat_heads(q, torch.cat((prompt_k, k), dim=2), torch.cat((prompt_v, v), dim=2))
        mask = causal_lower_right(q.shape[2], both[0].shape[2])
        return scaled_dot_product_attention(q, *both, attn_mask=mask, scale=scaling)

    parts = [
        checkpoint(one, q[:, :, span], k[:, :, span], v[:, :, span], use_reentrant=False) for span in _spans(lengths)
    ]
    return torch.cat(parts, dim=2)


@cache
def _merges(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Whether torch's flash kernels, which are private, do here what they are used for: tried on a small example."""
    if device.type not in ("cpu", "cuda"):
        return False
    generator = torch.Generator().manual_seed(0)
    apart = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)  # else a layer's checkpoint counts it
    with _disable_current_modes(), torch.enable_grad(), torch.autocast(device.type, enabled=False), apart:
        shapes = ((4, 12), (2, 40), (2, 40), (2, 12), (2, 12))
        inputs = [torch.randn(1, h, n, size, generator=generator).to(device, dtype).requires_grad_() for h, n in shapes]
        q, prompt_k, prompt_v, k, v = inputs
        results = []
        try:
            for attend in (_merged, _concatenated):
                output = attend(q, prompt_k, prompt_v, k, v, (7, 5), None)
                results.append((output.detach(), *torch.autograd.grad(output.float().square().sum(), inputs)))
        except (RuntimeError, TypeError, AttributeError):
            return False
    tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
    return all(bool((a - b).float().norm() <= tolerance * b.float().norm()) for a, b in zip(*results, strict=True))


def _spans(lengths: Lengths) -> Iterator[slice]:
    start = 0
    for length in lengths:
        yield slice(start, start + length)
        start += length


def _fold(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """(1, heads of queries, tokens, size) -> (1, ``heads``, more tokens, size): no key needs to be copied."""
    return tensor.reshape(1, heads, -1, tensor.shape[-1])


def _repeat_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    groups = q.shape[1] // k.shape[1]
    return (k, v) if groups == 1 else (k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1))
