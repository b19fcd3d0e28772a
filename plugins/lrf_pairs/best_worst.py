"""The pairing rule ``best_worst``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from lrf.errors import Reason
from lrf.types import Candidate, LeftOut, PreferencePair, Reward, Sample
from lrf_pairs.order import by_hash, differ
from lrf_pairs.settings import BestWorstSettings

ROUNDING = 1e-9  # 7.1 - 6.6 is a margin of 0.5, and a mean's last digits depend on the order of its terms


class BestWorst:
    """The candidate with the highest reward is chosen, the one with the lowest rejected (LongReward, section 3.2).

    Differs from the paper's public code where rewards are equal: they never make a pair, and a tie for the highest
    or the lowest place is broken by hash and not by the order of the data.

    Reasons for leaving a sample out: ``too_few_scored``, ``tie`` (all rewards are equal; or, with ``ties:
    left_out``, several candidates share the highest or the lowest), ``no_margin``, ``same_text``.
    """

    def __init__(self, settings: BestWorstSettings) -> None:
        self._settings = settings

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        scored = [(c, r.reward) for c, r in zip(sample.candidates, rewards, strict=True) if r.reward is not None]
        if len(scored) < self._settings.min_candidates:
            return LeftOut(Reason.TOO_FEW_SCORED, f"{len(scored)} of {self._settings.min_candidates} needed")
        high = max(reward for _, reward in scored)
        low = min(reward for _, reward in scored)
        if high - low <= ROUNDING:
            return LeftOut(Reason.TIE, f"all {len(scored)} rewards are {high:g}")
        if high - low < self._settings.margin - ROUNDING:
            return LeftOut(Reason.NO_MARGIN, f"{high:g} and {low:g} are less than {self._settings.margin:g} apart")
        best = self._ordered(sample, [c for c, reward in scored if high - reward <= ROUNDING])
        worst = self._ordered(sample, [c for c, reward in scored if reward - low <= ROUNDING])
        if self._settings.ties == "left_out" and (len(best) > 1 or len(worst) > 1):
            return LeftOut(Reason.TIE, f"{len(best)} candidates have {high:g}, {len(worst)} have {low:g}")
        reward_of = {c.id: reward for c, reward in scored}
        for chosen, rejected in product(best, worst):
            if differ(chosen, rejected):
                return PreferencePair(chosen, rejected, reward_of[chosen.id], reward_of[rejected.id])
        return LeftOut(Reason.SAME_TEXT, f"rewards {high:g} and {low:g} were given to the same text")

    def _ordered(self, sample: Sample, tied: list[Candidate]) -> list[Candidate]:
        return tied if self._settings.ties == "first" else by_hash(sample.id, tied)
