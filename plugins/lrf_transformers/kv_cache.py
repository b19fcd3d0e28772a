"""Keys and values of tokens already computed: a batch's buffer, and the prompt beginnings kept between batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class FixedCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values in a buffer of fixed size, written from left to right.

    Which slots a token may look at is the attention mask's business: a slot can hold padding or a dropped token.
    """

    is_sliding = False

    def __init__(self, capacity: int, past: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        if past is not None:  # each (batch, heads, slots, size)
            self.update(*past)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, self.capacity, size)
        self.values = value_states.new_zeros(batch, heads, self.capacity, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first tokens of some prompt. ``layers``: for each layer keys and values, (heads, len(tokens), size)."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


class PrefixCache:
    """Prompt beginnings, least recently used dropped first when they exceed so many tokens together."""

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def longest(self, tokens: Sequence[int]) -> tuple[Prefix | None, int]:
        """The one that has most of these tokens in common, and how many; never all of them."""
        best, most = None, 0
        for kept in self._kept.values():
            n = min(shared(kept.tokens, tokens), len(tokens) - 1)
            if n > most:
                best, most = kept, n
        if best is not None:
            self._kept.move_to_end(best.tokens)
        return best, most

    def keep(self, beginning: Prefix) -> None:
        if len(beginning.tokens) > self._most:
            return
        self._kept[beginning.tokens] = beginning
        while sum(map(len, self._kept)) > self._most:
            self._kept.popitem(last=False)


def buffer(layers: int, capacity: int, rows: Sequence[tuple[Prefix | None, int]]) -> tuple[Cache, int]:
    """A batch's cache holding each row's beginning, flush right in its first slots; and how many slots that are.

    ``rows`` gives for each row a beginning and how many of its tokens count.
    """
    width = max((n for _, n in rows), default=0)
    given = next((b for b, n in rows if b is not None and n), None)
    if given is None:
        return Cache(layers=[FixedCacheLayer(capacity) for _ in range(layers)]), 0
    made = []
    for layer in range(layers):
        k, v = given.layers[layer]
        keys = k.new_zeros(len(rows), k.shape[0], width, k.shape[2])
        values = v.new_zeros(len(rows), v.shape[0], width, v.shape[2])
        for row, (beginning, n) in enumerate(rows):
            if beginning is not None and n:
                keys[row, :, width - n :] = beginning.layers[layer][0][:, :n]
                values[row, :, width - n :] = beginning.layers[layer][1][:, :n]
        made.append(FixedCacheLayer(capacity, (keys, values)))
    return Cache(layers=made), width
