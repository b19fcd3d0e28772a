"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import lrf
from lrf_server.scorings import Scored

_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """What ``/metrics`` shows: requests by door and status, answers by outcome, and what judges are asked.

    Parameters
    ----------
    open_now: how many answers are being scored.
    """

    def __init__(self, model: lrf.RewardModel, open_now: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_OfModel(model, open_now))
        self._requests = Counter("lrf_requests", "Requests.", ["door", "status"], registry=self.registry)
        self._seconds = Histogram(
            "lrf_request_seconds", "Seconds that a request took.", ["door"], buckets=_BUCKETS, registry=self.registry
        )
        self._answers = Counter("lrf_answers", "Answers by outcome.", ["outcome"], registry=self.registry)

    def count_request(self, door: str, status: int, seconds: float) -> None:
        self._requests.labels(door, str(status)).inc()
        self._seconds.labels(door).observe(seconds)

    def count_answer(self, scored: Scored) -> None:
        self._answers.labels("scored" if scored.value is not None else scored.why[0]).inc()

    def text(self) -> bytes:
        text: bytes = generate_latest(self.registry)
        return text


class _OfModel:
    """What the model itself counts."""

    def __init__(self, model: lrf.RewardModel, open_now: Callable[[], int]) -> None:
        self._model = model
        self._open_now = open_now

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("lrf_open_answers", "Answers that are being scored.", value=self._open_now())
        for name, number in self._model.load.items():
            yield GaugeMetricFamily(f"lrf_judge_calls_{name}", f"Calls to judges: {name}.", value=number)
        costs = self._model.costs
        for name in ("calls", "reused", "faults", "prompt_tokens", "completion_tokens", "cached_tokens"):
            yield CounterMetricFamily(f"lrf_judge_{name}", f"Of judges since the start: {name}.", value=costs[name])
