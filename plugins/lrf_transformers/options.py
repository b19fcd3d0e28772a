"""Probabilities of several strings (options) after a text, in one forward pass.

The options' tokens form a tree, whose nodes are computed in one pass. An option's probability is the product over all
of its tokens, closing brackets included, so "[[10]]" and "[[1]]" are told apart with any tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrf_transformers.batch import TokenBatch


@dataclass(frozen=True, slots=True)
class TokenTree:
    """The prefix tree of several continuations of one token, the root, without the continuations' last tokens.

    ``parents[i]`` is the parent of node i (0 for the root); ``steps`` has (node, next token) pairs for each
    continuation.
    """

    tokens: tuple[int, ...]
    depths: tuple[int, ...]
    parents: tuple[int, ...]
    steps: tuple[tuple[tuple[int, int], ...], ...]


def token_tree(root: int, continuations: Sequence[Sequence[int]]) -> TokenTree:
    tokens, depths, parents = [root], [0], [0]
    known: dict[tuple[int, ...], int] = {(): 0}
    steps = []
    for ids in continuations:
        for n in range(1, len(ids)):
            if (path := tuple(ids[:n])) not in known:
                known[path] = len(tokens)
                tokens.append(ids[n - 1])
                depths.append(n)
                parents.append(known[path[:-1]])
        steps.append(tuple((known[tuple(ids[:n])], ids[n]) for n in range(len(ids))))
    return TokenTree(tuple(tokens), tuple(depths), tuple(parents), tuple(steps))


def option_probabilities(batch: TokenBatch, trees: Sequence[TokenTree]) -> list[Tensor]:
    """For each row the probabilities of its tree's continuations, float32, normalised to 1; NaN if the logits are.

    A tree of only a root has none.
    """
    rows, nodes = len(trees), max(len(t.tokens) for t in trees)
    tokens = torch.zeros(rows, nodes, dtype=torch.long)
    depths = torch.zeros(rows, nodes, dtype=torch.long)
    real = torch.zeros(rows, nodes, dtype=torch.bool)
    sees = torch.zeros(rows, nodes, nodes, dtype=torch.bool)
    for row, t in enumerate(trees):
        n = len(t.tokens)
        tokens[row, :n] = torch.tensor(t.tokens)
        depths[row, :n] = torch.tensor(t.depths)
        real[row, :n] = True
        for node in range(n):
            sees[row, node] = sees[row, t.parents[node]]
            sees[row, node, node] = True
    device = batch.logits.device
    logits = batch.feed_tree(tokens.to(device), depths.to(device), sees.to(device), real.to(device))
    by_row = []
    for row, t in enumerate(trees):
        if not t.steps:
            by_row.append(torch.zeros(0))
            continue
        log_p = logits[row].float().log_softmax(-1)  # (nodes, vocabulary)
        scores = torch.stack([log_p[tuple(zip(*steps, strict=True))].sum() for steps in t.steps])
        by_row.append(scores.softmax(0).cpu())
    return by_row
