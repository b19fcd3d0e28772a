"""The pairing rule ``contrast``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from lrf.errors import Reason
from lrf.types import Candidate, LeftOut, PreferencePair, Reward, Sample
from lrf_pairs.order import by_hash, differ
from lrf_pairs.settings import ContrastSettings


class Contrast:
    """The answer of a strong source is chosen, that of a weak one rejected (the paper's baseline "contrast").

    The sources are what the data says in a candidate's ``source``. Rewards decide nothing; where there are some,
    they stand in the pair. Of several candidates of one source, a hash takes one.

    Reasons for leaving a sample out: ``no_strong``, ``no_weak``, ``same_text``.
    """

    def __init__(self, settings: ContrastSettings) -> None:
        self._strong = settings.strong_sources
        self._weak = settings.weak_sources

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        strong = _of_sources(sample, self._strong)
        weak = _of_sources(sample, self._weak)
        if not strong:
            return LeftOut(Reason.NO_STRONG, _sources(sample, self._strong))
        if not weak:
            return LeftOut(Reason.NO_WEAK, _sources(sample, self._weak))
        reward = {r.candidate_id: r.reward for r in rewards}
        for chosen, rejected in product(strong, weak):
            if differ(chosen, rejected):
                return PreferencePair(chosen, rejected, reward.get(chosen.id), reward.get(rejected.id))
        return LeftOut(Reason.SAME_TEXT, "the strong and the weak source gave the same answer")


def _of_sources(sample: Sample, sources: Sequence[str]) -> list[Candidate]:
    ordered = by_hash(sample.id, sample.candidates)
    return [candidate for source in sources for candidate in ordered if candidate.source == source]


def _sources(sample: Sample, wanted: Sequence[str]) -> str:
    there = sorted({c.source or "(none)" for c in sample.candidates})
    return f"no candidate of {', '.join(wanted)}; the sample's sources: {', '.join(there) or 'no candidates'}"
