"""How long a plan takes on several machines, and what it leaves on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil

from lrf.planning.plan import Plan
from lrf.types import JSON

CALLS_A_SECOND_OF_A_RUN = 600
"""What one run's process can send and keep: about 1 ms of CPU a call, with room (``benchmarks/engine_cost.py``)."""

ROW_BYTES = 500
"""Of a reply in the journal besides its texts, indices included (measured: 450 to 490)."""
TOKEN_BYTES = 4
VECTOR_BYTES = 2_100
"""Of an embedded text: 512 dimensions in float32, and its key."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the calls of a plan that are left to pay take.

    Parameters
    ----------
    workers, slots, seconds: the replicas of the judge's server, the calls that each takes at once, and how long a call
        takes then.
    calls_per_s: of all workers, as far as the runs can send them.
    hours: until all calls are made.
    runs: how many runs must share the data to keep the workers busy; 1: one is enough.
    journal_bytes: what all runs' journals grow by.
    """

    workers: int
    slots: int
    seconds: float
    calls_per_s: float
    hours: float
    runs: int
    journal_bytes: int

    def as_json(self) -> Mapping[str, JSON]:
        return asdict(self)

    def sentences(self) -> list[str]:
        """The forecast for people."""
        lines = [
            f"{self.workers:,} workers of {self.slots:,} calls at once, {self.seconds:g} s a call: "
            f"{self.calls_per_s:,.1f} calls a second, {_duration(self.hours)} in all; journals of about "
            f"{_size(self.journal_bytes)}"
        ]
        if self.runs > 1:
            lines.append(
                f"one run sends about {CALLS_A_SECOND_OF_A_RUN:,} calls a second: {self.runs:,} runs must share the "
                f"data (`part: 1/{self.runs}` to `part: {self.runs}/{self.runs}`)"
            )
        return lines


def forecast(plan: Plan, workers: int, slots: int, seconds: float) -> Forecast:
    """The forecast of a plan: the calls that are left, over the workers' calls a second."""
    total = plan.total()
    rate = workers * slots / seconds
    share = total.left_calls / total.calls if total.calls else 0.0
    tokens = (total.prompt_tokens - total.shared_tokens + total.reply_tokens) * share
    return Forecast(
        workers,
        slots,
        seconds,
        rate,
        total.left_calls / rate / 3600,
        max(1, ceil(rate / CALLS_A_SECOND_OF_A_RUN)),
        round(total.left_calls * ROW_BYTES + tokens * TOKEN_BYTES + plan.texts_to_embed * VECTOR_BYTES),
    )


def _duration(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes" if hours >= 1 / 60 else "a minute"


def _size(number: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{max(1, round(number / 10**6)):,} MB"
