"""What the user asked to score again: part of every request, so that a resumed run makes the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RescoringRounds:
    """How often each dimension was rescored, and how often each candidate (by sample and id) for its failures."""

    dimensions: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def of(self, dimension: str) -> int:
        return self.dimensions.get(dimension, 0)

    def again(self, sample: str, candidate: str) -> int:
        return self.failed.get(sample, {}).get(candidate, 0)
