"""Whether data can make any preference pair, known before a reward is paid for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lrf.protocols import Pairing
from lrf.types import Candidate, LeftOut, PreferencePair, Reward, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline


@dataclass(slots=True)
class PairForecast:
    """Asks a pairing rule for a pair of each sample, with made-up rewards that are as far apart as can be.

    Parameters
    ----------
    pairing: the rule; it is pure.
    rule: what the pipeline calls it.
    sampled: how many candidates each sample has once it was sampled; 0 where nothing is sampled.
    source: who writes the sampled candidates.
    """

    pairing: Pairing
    rule: str
    sampled: int = 0
    source: str | None = None
    possible: bool = False
    samples: int = 0
    _reasons: Counter[str] = field(default_factory=Counter)
    _detail: str = ""

    def add(self, sample: Sample) -> None:
        """Look at a sample, unless an earlier one can make a pair."""
        self.samples += 1
        if self.possible:
            return
        missing = range(max(0, self.sampled - len(sample.candidates)))
        drawn = (Candidate(f"sampled-{number}", f"Candidate {number}.", self.source) for number in missing)
        filled = replace(sample, candidates=(*sample.candidates, *drawn))
        step = 10 / max(1, len(filled.candidates) - 1)
        falling = [10 - step * place for place in range(len(filled.candidates))]
        left_out = [o for r in (falling, falling[::-1]) if isinstance(o := self._pair(filled, r), LeftOut)]
        if len(left_out) < 2:
            self.possible = True
            return
        self._reasons[left_out[0].reason] += 1
        self._detail = self._detail or left_out[0].detail

    def _pair(self, sample: Sample, rewards: list[float]) -> PreferencePair | LeftOut:
        of_candidates = [Reward(sample.id, c.id, r, {}) for c, r in zip(sample.candidates, rewards, strict=True)]
        return self.pairing.pair(sample, of_candidates)

    @property
    def problem(self) -> str | None:
        """Why no sample can make a pair; None where one can, or where there are no samples."""
        if self.possible or not self.samples:
            return None
        reasons = ", ".join(f"{reason} ({n:,})" for reason, n in self._reasons.most_common(3))
        detail = f": {self._detail}" if self._detail else ""
        return (
            f"pairs ({self.rule}): no sample can make a pair, whatever its rewards, because of {reasons}{detail}; change "
            "the settings of `pairs:` or the data (`--until score` scores without making pairs)"
        )


def pair_forecast(pipeline: Pipeline, pairing: Pairing | None) -> PairForecast | None:
    """The forecast for a pipeline; None for one that makes no pairs."""
    if pairing is None or pipeline.pairs is None:
        return None
    if pipeline.sample is None:
        return PairForecast(pairing, pipeline.pairs.type)
    model = pipeline.sample.settings.model_reference
    return PairForecast(pairing, pipeline.pairs.type, pipeline.sample.generation.n, model.name if model else None)
