"""The pairing rule ``above_noise``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lrf.errors import Reason
from lrf.types import Candidate, LeftOut, PreferencePair, Reward, Sample
from lrf_pairs.best_worst import BestWorst
from lrf_pairs.settings import AboveNoiseSettings, BestWorstSettings

FEWEST = 4
"""Through fewer points a line by length explains any difference."""


class AboveNoise:
    """The highest reward against the lowest, where their difference is more than noise and more than length.

    Two rewards with the noise's standard deviation differ by less than z * sqrt(2) * noise with the confidence that
    belongs to z (1.96: 95%). ``lrf audit --noise`` measures the noise. Length explains a pair when a straight line
    through the sample's rewards by length leaves less than that difference between the two (least squares).

    Reasons for leaving a sample out: ``too_few_scored``, ``tie``, ``no_margin``, ``same_text``,
    ``explained_by_length``. A run's summary counts them, and so the share that is kept.
    """

    def __init__(self, settings: AboveNoiseSettings) -> None:
        self._settings = settings
        self._margin = settings.z * 2**0.5 * settings.noise
        best_worst = BestWorstSettings(
            min_candidates=settings.min_candidates, margin=self._margin, ties="left_out" if settings.noise else "hash"
        )
        self._best_worst = BestWorst(best_worst)

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        made = self._best_worst.pair(sample, rewards)
        if isinstance(made, LeftOut) or not self._settings.without_length:
            return made
        scored = [(c, r.reward) for c, r in zip(sample.candidates, rewards, strict=True) if r.reward is not None]
        if len(scored) < FEWEST or made.chosen_reward is None or made.rejected_reward is None:
            return made
        difference = made.chosen_reward - made.rejected_reward
        by_length = _slope(scored) * (len(made.chosen.text) - len(made.rejected.text))
        if difference - by_length >= max(self._margin, difference / 10):
            return made
        detail = f"of the difference of {difference:.2f}, {by_length:.2f} follow from the lengths"
        return LeftOut(Reason.EXPLAINED_BY_LENGTH, detail)


def _slope(scored: Sequence[tuple[Candidate, float]]) -> float:
    """By how much the reward grows with each character, by least squares; 0 where all are of one length."""
    lengths = [len(candidate.text) for candidate, _ in scored]
    length, reward = fmean(lengths), fmean(r for _, r in scored)
    spread = sum((n - length) ** 2 for n in lengths)
    return (
        sum((n - length) * (r - reward) for n, (_, r) in zip(lengths, scored, strict=True)) / spread if spread else 0.0
    )
