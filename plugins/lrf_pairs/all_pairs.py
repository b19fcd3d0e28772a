"""The pairing rule ``all_pairs``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from lrf.errors import Reason
from lrf.types import LeftOut, PreferencePair, Preferences, Reward, Sample
from lrf_pairs.best_worst import ROUNDING, BestWorst
from lrf_pairs.order import by_hash, differ
from lrf_pairs.settings import AllPairsSettings, BestWorstSettings


class AllPairs:
    """Each two candidates whose rewards differ by ``margin``, the largest differences first, up to ``most`` pairs.

    For trainers that read pairs; the ``dpo`` trainer's ``loss: all_pairs`` compares the same candidates with one pass
    of the prompt. Reasons for leaving a sample out are those of ``best_worst``.
    """

    def __init__(self, settings: AllPairsSettings) -> None:
        self._settings = settings
        self._best_worst = BestWorst(
            BestWorstSettings(min_candidates=settings.min_candidates, margin=settings.margin, ties="hash")
        )

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> Preferences | LeftOut:
        first = self._best_worst.pair(sample, rewards)
        if isinstance(first, LeftOut) and first.reason != Reason.SAME_TEXT:
            return first
        reward_of = {r.candidate_id: r.reward for r in rewards if r.reward is not None}
        scored = by_hash(sample.id, [c for c in sample.candidates if c.id in reward_of])
        best_first = sorted(scored, key=lambda candidate: -reward_of[candidate.id])
        pairs = [
            PreferencePair(better, worse, reward_of[better.id], reward_of[worse.id])
            for better, worse in combinations(best_first, 2)
            if self._apart(reward_of[better.id] - reward_of[worse.id]) and differ(better, worse)
        ]
        if not pairs:
            return first if isinstance(first, LeftOut) else Preferences((first,))
        pairs.sort(key=lambda pair: -((pair.chosen_reward or 0.0) - (pair.rejected_reward or 0.0)))
        return Preferences(tuple(pairs[: self._settings.most]))

    def _apart(self, difference: float) -> bool:
        return difference > ROUNDING and difference >= self._settings.margin - ROUNDING
