"""Batched forward passes in which each row gets the same logits as alone.

Every pass has its own attention mask, made from the position of each cache slot in its row. Rows of different lengths,
cached prefixes, removed tokens, sliding windows and trees of continuations therefore need no special path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lrf.errors import BadReplyError, JudgeMisconfiguredError
from lrf_transformers.kv_cache import Prefix, prefilled_cache
from lrf_transformers.weights import Loaded

_FORWARD_TOKENS = 4096  # rows × columns in one forward pass of a prompt
_FORWARD_COLUMNS = 1024  # attention to what comes later is computed and thrown away, so columns are few
_KINDS = {"full_attention", "sliding_attention"}


class TokenBatch:
    """A batch of rows of tokens with their key-value cache.

    Parameters
    ----------
    loaded: the model.
    prompts: token ids of each row, at least one each.
    prefixes: for each row a cached prefix (or None) and how many of its tokens to use, fewer than the prompt has.
    room: cache slots needed after the prompts.
    """

    def __init__(
        self,
        loaded: Loaded,
        prompts: Sequence[Sequence[int]],
        prefixes: Sequence[tuple[Prefix | None, int]],
        room: int,
    ) -> None:
        self._model, self._device = loaded.model, loaded.device
        config = loaded.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds = frozenset(kinds or ["sliding_attention" if self._window else "full_attention"])
        taken = [n for _, n in prefixes]
        new = [list(p[n:]) for p, n in zip(prompts, taken, strict=True)]
        rest = max(map(len, new))
        capacity = max(taken) + rest + room
        self._cache, width = prefilled_cache(config.num_hidden_layers, capacity, prefixes)
        kind_of = kinds or [next(iter(self._kinds))] * config.num_hidden_layers
        self._sliding = [c for c, kind in zip(self._cache.layers, kind_of, strict=True) if kind == "sliding_attention"]
        rows = len(new)
        self._valid = torch.zeros(rows, capacity, dtype=torch.bool, device=self._device)  # (rows, slots)
        self._position = torch.zeros(rows, capacity, dtype=torch.long, device=self._device)
        for row, n in enumerate(taken):
            self._valid[row, width - n : width] = True
            self._position[row, width - n : width] = torch.arange(n, device=self._device)
        self._next = torch.tensor(taken, device=self._device)  # (rows,) position of each row's next token
        self.filled = width
        tokens = torch.zeros(rows, rest, dtype=torch.long, device=self._device)
        real = torch.zeros(rows, rest, dtype=torch.bool, device=self._device)
        for row, ids in enumerate(new):
            tokens[row, rest - len(ids) :] = torch.tensor(ids, device=self._device)
            real[row, rest - len(ids) :] = True
        step = max(1, min(_FORWARD_TOKENS // rows, _FORWARD_COLUMNS))
        for start in range(0, rest, step):
            piece = slice(start, start + step)
            self.logits = self.feed(tokens[:, piece], real[:, piece])[:, -1]  # (rows, vocabulary)
        self.prompt_end = self.filled

    def feed(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Append columns of tokens, (rows, columns); where ``real`` is False, the row gets none.

        Returns the logits of the last column, (rows, 1, vocabulary).
        """
        columns = tokens.shape[1]
        positions = self._next[:, None] + real.cumsum(1) - 1
        earlier = torch.ones(columns, columns, dtype=torch.bool, device=self._device).tril()
        logits = self._forward(tokens, positions, real, earlier.expand(len(tokens), -1, -1), 1)
        self._next = self._next + real.sum(1)
        return logits

    def feed_tree(self, tokens: Tensor, depths: Tensor, sees: Tensor, real: Tensor) -> Tensor:
        """Append a tree of continuations to each row; nothing can be appended afterwards.

        ``tokens`` and ``depths`` are (rows, nodes); depth 0 is the row's next token. ``sees``, (rows, nodes, nodes),
        marks the ancestors of each node, itself included. Returns the logits of all nodes, (rows, nodes, vocabulary).
        """
        return self._forward(tokens, self._next[:, None] + depths, real, sees, tokens.shape[1])

    def forget(self, row: int, from_slot: int) -> None:
        """Remove a row's tokens from a slot on."""
        self._next[row] -= self._valid[row, from_slot : self.filled].sum()
        self._valid[row, from_slot : self.filled] = False

    def prefix(self, row: int, tokens: Sequence[int]) -> Prefix:
        """A copy of the row's keys and values, for other batches. ``tokens`` are the row's."""
        slots = self._valid[row, : self.filled].nonzero()[:, 0]
        layers = tuple((layer.keys[row][:, slots], layer.values[row][:, slots]) for layer in self._cache.layers)
        return Prefix(tuple(tokens), layers)

    def _forward(self, tokens: Tensor, positions: Tensor, real: Tensor, sees: Tensor, keep: int) -> Tensor:
        columns = tokens.shape[1]
        block = slice(self.filled, self.filled + columns)
        self._valid[:, block], self._position[:, block] = real, positions
        past = self._valid[:, None, : self.filled].expand(-1, columns, -1)
        itself = torch.eye(columns, dtype=torch.bool, device=self._device)  # for padding: softmax over nothing is NaN
        allowed = torch.cat([past, sees & real[:, None] | itself], dim=2)  # (rows, columns, slots)
        self.filled += columns
        output = self._model(
            input_ids=tokens,
            position_ids=positions.clamp(min=0),
            attention_mask=self._masks(allowed, positions),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits
        return logits

    def _masks(self, allowed: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        masks = {"full_attention": allowed[:, None]}  # one for all heads
        if self._window is not None:
            distance = positions[:, :, None] - self._position[:, None, : self.filled]
            seen = allowed & (distance < self._window)
            first = int(seen.flatten(0, 1).any(0).int().argmax())  # no column sees a slot before it
            for layer in self._sliding:
                layer.first = first
            masks["sliding_attention"] = seen[:, None, :, first:]
        if len(self._kinds) == 1:
            return masks[next(iter(self._kinds))]
        return masks


def nonfinite_logits() -> BadReplyError:
    """The error for logits that aren't finite."""
    return BadReplyError("the model computed NaN or infinity; set dtype to float32, or to bfloat16 where it is float16")


@torch.inference_mode()
def check_batching(loaded: Loaded) -> None:
    """Compare a batch with the model's plain forward pass.

    Raises :class:`lrf.errors.JudgeMisconfiguredError` if the architecture isn't supported.
    """
    length = min(24, loaded.context_tokens - 1)
    tokens = [5 + i % 17 for i in range(length)]
    name = type(loaded.model).__name__
    advice = "serve it (vLLM, say) and use the judge openai instead"
    if other := set(getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()) - _KINDS:
        raise JudgeMisconfiguredError(f"{name} has layers of kind {', '.join(sorted(other))}; {advice}")
    try:
        prefix = TokenBatch(loaded, [tokens[: length // 2]], [(None, 0)], 0).prefix(0, tokens[: length // 2])
        batch = TokenBatch(loaded, [tokens, tokens[:5]], [(prefix, length // 2), (prefix, 3)], 0)
        expected = loaded.model(torch.tensor([tokens], device=loaded.device)).logits[0, -1].float()
    except Exception as error:
        raise JudgeMisconfiguredError(f"{name} can't be computed in batches here ({error!r}); {advice}") from error
    difference = (batch.logits[0].float() - expected).norm() / expected.norm()
    if not difference < 0.1:
        raise JudgeMisconfiguredError(f"{name} computes differently in batches (by {difference:.0%}); {advice}")
