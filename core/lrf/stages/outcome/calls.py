"""What a run's calls took: tokens and retries by dimension, and how many and how slow they were over time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lrf.store.calls import Call, calls, unanswered, unanswered_at
from lrf.types import JSON

BINS = 60
"""Parts of the time that the calls took, from the first to the last."""
PAUSE_S = 600.0
"""A longer time without a call is a pause between two sittings and left out of the time axis."""
KEPT = 500
"""Calls of a part of the time whose seconds are kept for percentiles."""


def call_figures(journal: Path) -> dict[str, JSON]:
    """Calls by dimension and over time. Reads the journal twice, in memory that doesn't grow with it."""
    end, n = 0.0, 0
    for at, _ in _clock(journal):
        end, n = at, n + 1
    if not n:
        return {"by_dimension": {}, "over_time": [], "unanswered": []}
    by_dimension: dict[str, Counter[str]] = {}
    width = max(end / BINS, 1e-9)
    bins: list[list[float]] = [[] for _ in range(BINS)]
    busy, count, again = [0.0] * BINS, [0] * BINS, [0] * BINS
    lost = [0] * BINS
    for at, call in _clock(journal):
        number = min(BINS - 1, int(at / width))
        if call is None:
            lost[number] += 1
            continue
        _add(by_dimension.setdefault(call.dimension, Counter()), call)
        count[number] += 1
        again[number] += call.attempt > 0
        if len(bins[number]) < KEPT:
            bins[number].append(call.seconds)
        _spread(busy, at - call.seconds, at, width)
    return {
        "by_dimension": {name: dict(counter) for name, counter in by_dimension.items()},
        "over_time": [
            {
                "second": round(i * width, 3),
                "calls": count[i],
                "again": again[i],
                "unanswered": lost[i],
                "in_flight": round(busy[i] / width, 3),
                "median_s": _percentile(bins[i], 0.5),
                "p95_s": _percentile(bins[i], 0.95),
            }
            for i in range(BINS)
        ],
        "unanswered": [{"dimension": d, "reason": r, "calls": n} for d, r, n in unanswered(journal)],
    }


def _clock(journal: Path) -> Iterator[tuple[float, Call | None]]:
    """Each call with the seconds since the first one was sent, pauses between sittings left out.

    The call is None for one without a usable reply.
    """
    answered = ((call.at, call.seconds, call) for call in calls(journal))
    without = ((at, 0.0, None) for at in unanswered_at(journal))
    before: float | None = None
    clock = 0.0
    for at, seconds, call in heapq.merge(answered, without, key=lambda one: one[0]):
        gone = seconds if before is None else at - before
        clock += gone if gone <= PAUSE_S else seconds
        before = at
        yield clock, call


def _add(counter: Counter[str], call: Call) -> None:
    counter.update(
        replies=1,
        again=call.attempt > 0,
        cut_off=call.finish.startswith("length"),
        prompt_tokens=call.prompt_tokens,
        completion_tokens=call.completion_tokens,
        cached_tokens=min(call.cached_tokens, call.prompt_tokens),
    )


def _spread(busy: list[float], start: float, end: float, width: float) -> None:
    """Add the seconds from ``start`` to ``end`` to the parts of the time that they fall into."""
    first, last = max(0, int(start / width)), min(len(busy) - 1, int(end / width))
    for number in range(first, last + 1):
        busy[number] += max(0.0, min(end, (number + 1) * width) - max(start, number * width))


def _percentile(seconds: list[float], share: float) -> float | None:
    return round(sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))], 3) if seconds else None
