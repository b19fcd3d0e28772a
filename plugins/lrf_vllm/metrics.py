"""What a vLLM engine tells of itself, in the Prometheus text that its server has at ``/metrics``."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

from lrf.types import JSON

_LINE = re.compile(r"^(vllm:[a-z_]+?)(?:_total)?(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sums since the engine started, over all of its parts.

    ``prefix_queries`` and ``prefix_hits`` are tokens looked up and found in the prefix cache; ``queued`` requests
    waited ``queue_s`` seconds together until they were begun; ``preemptions`` were put back for want of memory.
    """

    prefix_queries: float = 0
    prefix_hits: float = 0
    queued: float = 0
    queue_s: float = 0
    preemptions: float = 0

    def since(self, earlier: Metrics) -> Metrics:
        return Metrics(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))

    def figures(self) -> dict[str, JSON]:
        """For a run's log and summary; empty where nothing was asked."""
        if self.prefix_queries <= 0:
            return {}
        return {
            "prefix_cache_hit_rate": round(self.prefix_hits / self.prefix_queries, 4),
            "prefix_cache_tokens": int(self.prefix_queries),
            "mean_queue_s": round(self.queue_s / self.queued, 4) if self.queued else 0.0,
            "preemptions": int(self.preemptions),
        }


def parse_metrics(text: str) -> Metrics:
    """The figures in the text; those it doesn't tell are 0."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue

    def sum_of(name: str) -> float:
        value = sums.get(f"vllm:{name}", 0.0)
        return value if 0 <= value < 1e18 else 0.0

    return Metrics(
        prefix_queries=sum_of("prefix_cache_queries"),
        prefix_hits=sum_of("prefix_cache_hits"),
        queued=sum_of("request_queue_time_seconds_count"),
        queue_s=sum_of("request_queue_time_seconds_sum"),
        preemptions=sum_of("num_preemptions"),
    )
