"""Metrics of a vLLM engine, read from the Prometheus text that its server gives at ``/metrics``."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

from lrf.types import JSON

_LINE = re.compile(r"^(vllm:[a-z_]+?)(?:_total)?(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Sums since the engine started, over all of its parts.

    Attributes
    ----------
    prefix_queries, prefix_hits: tokens looked up, and found, in the prefix cache.
    queued, queue_s: requests that were queued, and their seconds in the queue together.
    preemptions: requests that were interrupted for lack of memory.
    """

    prefix_queries: float = 0
    prefix_hits: float = 0
    queued: float = 0
    queue_s: float = 0
    preemptions: float = 0

    def since(self, earlier: EngineMetrics) -> EngineMetrics:
        return EngineMetrics(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))

    def figures(self) -> dict[str, JSON]:
        """The metrics for a run's log and summary; empty without requests."""
        if self.prefix_queries <= 0:
            return {}
        return {
            "prefix_cache_hit_rate": round(self.prefix_hits / self.prefix_queries, 4),
            "prefix_cache_tokens": int(self.prefix_queries),
            "mean_queue_s": round(self.queue_s / self.queued, 4) if self.queued else 0.0,
            "preemptions": int(self.preemptions),
        }


def parse_metrics(text: str) -> EngineMetrics:
    """The metrics in the text; missing ones are 0."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue

    def sum_of(name: str) -> float:
        value = sums.get(f"vllm:{name}", 0.0)
        return value if 0 <= value < 1e18 else 0.0

    return EngineMetrics(
        prefix_queries=sum_of("prefix_cache_queries"),
        prefix_hits=sum_of("prefix_cache_hits"),
        queued=sum_of("request_queue_time_seconds_count"),
        queue_s=sum_of("request_queue_time_seconds_sum"),
        preemptions=sum_of("num_preemptions"),
    )
