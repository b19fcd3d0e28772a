"""Prompts computed together by one model, each row exactly as if it were alone.

Every forward pass brings its own attention mask, made of each slot's position in its row. So rows of different
lengths, beginnings taken from a cache, dropped tokens, sliding windows and several continuations of one text at
once (a tree) need no special path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lrf.errors import BadReplyError, JudgeMisconfiguredError
from lrf_transformers.kv_cache import Prefix, buffer
from lrf_transformers.weights import Loaded

_FORWARD_TOKENS = 4096  # rows × columns in one forward pass of a prompt
_KINDS = {"full_attention", "sliding_attention"}


class TokenBatch:
    """Rows that grow together.

    Parameters
    ----------
    loaded: the model.
    prompts: token ids of each row, at least one each.
    beginnings: for each row a kept beginning and how many of its tokens to take, fewer than the prompt has.
    room: how many slots are needed after the prompts.
    """

    def __init__(
        self,
        loaded: Loaded,
        prompts: Sequence[Sequence[int]],
        beginnings: Sequence[tuple[Prefix | None, int]],
        room: int,
    ) -> None:
        self._model, self._device = loaded.model, loaded.device
        config = loaded.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds = frozenset(kinds or ["sliding_attention" if self._window else "full_attention"])
        taken = [n for _, n in beginnings]
        new = [list(p[n:]) for p, n in zip(prompts, taken, strict=True)]
        rest = max(map(len, new))
        capacity = max(taken) + rest + room
        self._cache, width = buffer(config.num_hidden_layers, capacity, beginnings)
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
        step = max(1, _FORWARD_TOKENS // rows)
        for start in range(0, rest, step):
            piece = slice(start, start + step)
            self.logits = self.feed(tokens[:, piece], real[:, piece])[:, -1]  # (rows, vocabulary)
        self.prompt_end = self.filled

    def feed(self, tokens: Tensor, real: Tensor, keep: int = 1) -> Tensor:
        """Append a column or more of tokens, (rows, columns); where ``real`` is False the row gets none.

        Returns the logits at the last ``keep`` columns, (rows, keep, vocabulary).
        """
        columns = tokens.shape[1]
        positions = self._next[:, None] + real.cumsum(1) - 1
        earlier = torch.ones(columns, columns, dtype=torch.bool, device=self._device).tril()
        logits = self._forward(tokens, positions, real, earlier.expand(len(tokens), -1, -1), keep)
        self._next = self._next + real.sum(1)
        return logits

    def feed_tree(self, tokens: Tensor, depths: Tensor, sees: Tensor, real: Tensor) -> Tensor:
        """Append several continuations of each row at once.

        ``tokens`` and ``depths``, (rows, nodes): depth 0 is the row's next token. ``sees``, (rows, nodes, nodes): which
        nodes lie on the way to a node, itself included. Returns logits at every node. The rows can't grow afterwards.
        """
        return self._forward(tokens, self._next[:, None] + depths, real, sees, tokens.shape[1])

    def forget(self, row: int, from_slot: int) -> None:
        """Take back a row's tokens from a slot on."""
        self._next[row] -= self._valid[row, from_slot : self.filled].sum()
        self._valid[row, from_slot : self.filled] = False

    def beginning(self, row: int, tokens: Sequence[int]) -> Prefix:
        """A copy of what the row holds, to be taken up by other batches. ``tokens`` are the row's."""
        slots = self._valid[row, : self.filled].nonzero()[:, 0]
        layers = tuple((layer.keys[row][:, slots], layer.values[row][:, slots]) for layer in self._cache.layers)
        return Prefix(tuple(tokens), layers)

    def _forward(self, tokens: Tensor, positions: Tensor, real: Tensor, sees: Tensor, keep: int) -> Tensor:
        columns = tokens.shape[1]
        block = slice(self.filled, self.filled + columns)
        self._valid[:, block], self._position[:, block] = real, positions
        past = self._valid[:, None, : self.filled].expand(-1, columns, -1)
        itself = torch.eye(columns, dtype=torch.bool, device=self._device)  # padding too: a row of nothing is NaN
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
            masks["sliding_attention"] = (allowed & (distance < self._window))[:, None]
        if len(self._kinds) == 1:
            return masks[next(iter(self._kinds))]
        return masks


def nonfinite_logits() -> BadReplyError:
    """The error for logits that are no numbers."""
    return BadReplyError("the model computed NaN or infinity; set dtype to float32, or to bfloat16 where it is float16")


@torch.inference_mode()
def check_batching(loaded: Loaded) -> None:
    """Compare a batch with the model's own forward pass, so that no architecture is computed wrongly in silence.

    Raises :class:`lrf.errors.JudgeMisconfiguredError`.
    """
    length = min(24, loaded.context_tokens - 1)
    tokens = [5 + i % 17 for i in range(length)]
    name = type(loaded.model).__name__
    advice = "serve it (vLLM, say) and use the judge openai instead"
    if other := set(getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()) - _KINDS:
        raise JudgeMisconfiguredError(f"{name} has layers of kind {', '.join(sorted(other))}; {advice}")
    try:
        half = TokenBatch(loaded, [tokens[: length // 2]], [(None, 0)], 0).beginning(0, tokens[: length // 2])
        batch = TokenBatch(loaded, [tokens, tokens[:5]], [(half, length // 2), (half, 3)], 0)
        expected = loaded.model(torch.tensor([tokens], device=loaded.device)).logits[0, -1].float()
    except Exception as error:
        raise JudgeMisconfiguredError(f"{name} can't be computed in batches here ({error!r}); {advice}") from error
    difference = (batch.logits[0].float() - expected).norm() / expected.norm()
    if not difference < 0.1:
        raise JudgeMisconfiguredError(f"{name} computes differently in batches (by {difference:.0%}); {advice}")
