"""What a vLLM server tells of itself at ``/metrics``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^(vllm:[a-z_]+?)(?:_total)?(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """Figures of a vLLM server since it started, over all of its engines.

    ``prefix_queries`` and ``prefix_hits`` are tokens looked up and found in the prefix cache;
    ``running`` and ``waiting`` the requests of this moment.
    """

    prefix_queries: int
    prefix_hits: int
    cached_prompt_tokens: int
    running: int
    waiting: int

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens found in the prefix cache, 0 to 1."""
        return self.prefix_hits / self.prefix_queries if self.prefix_queries else 0.0


def parse_metrics(text: str) -> ServerMetrics:
    """The figures in the Prometheus text of ``/metrics``; those it doesn't tell are 0."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue

    def count(name: str) -> int:
        value = sums.get(f"vllm:{name}", 0.0)
        return int(value) if 0 <= value < 1e18 else 0

    return ServerMetrics(
        prefix_queries=count("prefix_cache_queries"),
        prefix_hits=count("prefix_cache_hits"),
        cached_prompt_tokens=count("prompt_tokens_cached"),
        running=count("num_requests_running"),
        waiting=count("num_requests_waiting"),
    )
