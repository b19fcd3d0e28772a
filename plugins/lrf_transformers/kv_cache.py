"""Key-value caches: of a batch, and of prompt prefixes kept between batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class FixedCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values in a buffer of ``capacity`` slots, filled from left to right.

    A slot may contain padding or a removed token; the attention mask hides it. The slots before ``first`` are left out
    of what the layer attends to: they lie outside a sliding window.
    """

    is_sliding = False

    def __init__(self, capacity: int, past: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.first = 0
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
        return self.keys[:, :, self.first : self.length], self.values[:, :, self.first : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first tokens of a prompt with the keys and values of each layer, (heads, len(tokens), size)."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix of two sequences of tokens."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


class PrefixCache:
    """Prompt prefixes of up to ``capacity`` tokens together; the least recently used are dropped first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def longest(self, tokens: Sequence[int]) -> tuple[Prefix | None, int]:
        """The prefix that shares most tokens with ``tokens``, and how many; at least one token remains."""
        best, length = None, 0
        for kept in self._kept.values():
            n = min(common_prefix(kept.tokens, tokens), len(tokens) - 1)
            if n > length:
                best, length = kept, n
        if best is not None:
            self._kept.move_to_end(best.tokens)
        return best, length

    def keep(self, prefix: Prefix) -> None:
        if len(prefix.tokens) > self._capacity:
            return
        self._kept[prefix.tokens] = prefix
        while sum(map(len, self._kept)) > self._capacity:
            self._kept.popitem(last=False)


def prefilled_cache(layers: int, capacity: int, rows: Sequence[tuple[Prefix | None, int]]) -> tuple[Cache, int]:
    """A batch's cache that begins with each row's prefix, right-aligned; and the number of slots used by prefixes.

    ``rows`` has a prefix (or None) for each row, and how many of its tokens to use.
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
        for row, (prefix, n) in enumerate(rows):
            if prefix is not None and n:
                keys[row, :, width - n :] = prefix.layers[layer][0][:, :n]
                values[row, :, width - n :] = prefix.layers[layer][1][:, :n]
        made.append(FixedCacheLayer(capacity, (keys, values)))
    return Cache(layers=made), width
