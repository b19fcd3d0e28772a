"""Whether data can make any preference pair, known before a reward is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lrf.build import pairing_of, source_of
from lrf.errors import DataError
from lrf.protocols import Pairing
from lrf.stages.reading import good_samples
from lrf.stages.run_dir import RunDir
from lrf.types import Candidate, LeftOut, PreferencePair, Preferences, Reward, Sample

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
    source: the model that writes the sampled candidates.
    scored: whether candidates will have rewards.
    """

    pairing: Pairing
    rule: str
    sampled: int = 0
    source: str | None = None
    scored: bool = True
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
        falling = [10 - step * place if self.scored else None for place in range(len(filled.candidates))]
        left_out = [o for r in (falling, falling[::-1]) if isinstance(o := self._pair(filled, r), LeftOut)]
        if len(left_out) < 2:
            self.possible = True
            return
        self._reasons[left_out[0].reason] += 1
        self._detail = self._detail or left_out[0].detail

    def _pair(self, sample: Sample, rewards: Sequence[float | None]) -> PreferencePair | Preferences | LeftOut:
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
            f"pairs ({self.rule}): no sample can make a pair, whatever its rewards, because of {reasons}{detail}; "
            "change the settings of `pairs:` or the data (`--until score` scores without making pairs)"
        )


def check_pairs_possible(pipeline: Pipeline, run: RunDir) -> None:
    """Raises :class:`lrf.errors.DataError` when no sample of the data can make a pair.

    Reads up to the first sample that can. Errors of the data or of the rule are left to the stages that meet them.
    """
    if pipeline.pairs is None or pipeline.data is None:
        return
    scored = bool(pipeline.dimensions) or run.rewards.exists()
    forecast = PairForecast(pairing_of(pipeline), pipeline.pairs.type, scored=scored)
    if pipeline.sample is not None:
        model = pipeline.sample.settings.model_reference
        forecast.sampled, forecast.source = pipeline.sample.generation.n, model.name if model else None
    try:
        for sample in good_samples(source_of(pipeline)):
            forecast.add(sample)
            if forecast.possible:
                return
    except Exception:  # of the data, or a plugin's fault: it ends the run with the right words later
        return
    if forecast.problem:
        raise DataError(forecast.problem)
