"""How long a judge's replies take: when one is overdue, and whether they take longer than they used to."""

from __future__ import annotations

import statistics
from collections import deque

from lrf.prompting.requests import Usage

KNOWN = 20
"""Replies after which deadlines can be derived."""


class Latency:
    """Learns from every reply's seconds and tokens."""

    RECENT = 256
    GROUP = 16
    LONG_REPLY = 32
    MARGIN = 4.0
    SHORTEST_S = 10.0

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=self.RECENT)
        self._long: deque[tuple[float, int]] = deque(maxlen=self.RECENT)
        self._fresh = 0
        self._longest = self._a_token = 0.0
        self._groups: dict[tuple[int, int], list[float]] = {}
        self._usual: dict[tuple[int, int], float] = {}

    @property
    def known(self) -> bool:
        """Whether enough replies have come to derive deadlines."""
        return len(self._seconds) >= KNOWN

    def deadline_s(self, tokens: int) -> float | None:
        """Seconds within which a reply of up to ``tokens`` tokens is due; None before enough replies have come.

        Four times what it would take at the pace of the last replies: the 99th percentile of their seconds, and their
        seconds a token for every token that the reply may have. At least ten seconds.
        """
        if not self.known:
            return None
        if self._fresh >= KNOWN:  # computed anew now and then only: it is needed before every call
            self._fresh = 0
            self._longest = sorted(self._seconds)[max(0, round(0.99 * len(self._seconds)) - 1)]
            written = sum(n for _, n in self._long)
            self._a_token = sum(s for s, _ in self._long) / written if written else 0.0
        return max(self.SHORTEST_S, self.MARGIN * (self._longest + tokens * self._a_token))

    def slowness(self, seconds: float, usage: Usage) -> float | None:
        """How many times as long this reply took as one of its size used to; None while that isn't known.

        A size is a power of two of the prompt's tokens that were not cached, and of the reply's. What is usual is the
        lowest median of sixteen replies of that size.
        """
        self._learn(seconds, usage)
        size = (max(0, usage.prompt_tokens - usage.cached_tokens).bit_length(), usage.completion_tokens.bit_length())
        group = self._groups.setdefault(size, [])
        group.append(seconds)
        if len(group) == self.GROUP:
            median = statistics.median(group)
            self._usual[size] = min(self._usual.get(size, median), median)
            group.clear()
        usual = self._usual.get(size)
        return seconds / usual if usual else None

    def accept(self, slowness: float) -> None:
        """Take replies that are ``slowness`` times as slow as usual from now on."""
        self._usual = {size: seconds * slowness for size, seconds in self._usual.items()}
        self._groups.clear()

    def _learn(self, seconds: float, usage: Usage) -> None:
        self._seconds.append(seconds)
        self._fresh += 1
        if usage.completion_tokens >= self.LONG_REPLY:
            self._long.append((seconds, usage.completion_tokens))
