"""What looks wrong with a judge, told at the end of scoring. An alarm never ends a run.

Everything is gathered in one pass over the rewards, in memory that doesn't grow with them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrf.stages.score.correlation import spearman
from lrf.types import JSON

ENOUGH = 20
"""Fewer ratings, rewards or calls than this raise no alarm."""

SAME_SHARE = 0.95
LENGTH_CORRELATION = 0.8
ASKED_AGAIN_SHARE = 0.1
KEPT = 10_000
_BIN = 10  # ratings are counted in tenths


@dataclass(slots=True)
class Alarms:
    """Watches the rewards of a run go by.

    Rewards and lengths of at most :data:`KEPT` answers, drawn at random, are kept for their correlation.
    """

    seed: int = 0
    _ratings: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _kept: list[tuple[int, float]] = field(default_factory=list)
    _rewards: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, ratings: Mapping[str, float | None], reward: float | None, length: int | None) -> None:
        """Take in one candidate; ``length`` is that of its text in characters, None where it isn't known."""
        for dimension, rating in ratings.items():
            if rating is not None:
                self._ratings[dimension][round(rating * _BIN)] += 1
        if reward is None or length is None:
            return
        self._rewards += 1
        if len(self._kept) < KEPT:
            self._kept.append((length, reward))
        elif (at := self._random.randrange(self._rewards)) < KEPT:
            self._kept[at] = (length, reward)

    def raised(self, asked: Iterable[tuple[str, int, int]]) -> list[dict[str, JSON]]:
        """The alarms, each with a message. ``asked``: dimension, replies, and how many of these were asked again."""
        found: list[dict[str, JSON]] = []
        for dimension, bins in sorted(self._ratings.items()):
            rating, share, count = most_common_rating(bins)
            if count >= ENOUGH and share >= SAME_SHARE:
                found.append(
                    {
                        "alarm": "same_rating",
                        "dimension": dimension,
                        "share": round(share, 4),
                        "of": count,
                        "message": f"{dimension}: {share:.0%} of {count:,} ratings are (nearly) {rating:g}; "
                        "does the judge tell answers apart? Look into judgements.jsonl",
                    }
                )
        correlation = length_correlation(self._kept)
        if correlation is not None and abs(correlation) >= LENGTH_CORRELATION:
            which = "longer" if correlation > 0 else "shorter"
            found.append(
                {
                    "alarm": "length",
                    "correlation": round(correlation, 4),
                    "of": len(self._kept),
                    "message": f"rewards follow the answers' length (Spearman {correlation:.2f} over "
                    f"{len(self._kept):,} answers): {which} answers are rewarded; `lrf agree` tells whether people "
                    "see it so",
                }
            )
        for dimension, replies, again in asked:
            if replies >= ENOUGH and again >= ASKED_AGAIN_SHARE * replies:
                found.append(
                    {
                        "alarm": "asked_again",
                        "dimension": dimension,
                        "share": round(again / replies, 4),
                        "of": replies,
                        "message": f"{dimension}: {again / replies:.0%} of {replies:,} replies had to be asked for "
                        "again, since the one before was cut off or held no mark; each is paid for",
                    }
                )
        return found


def most_common_rating(bins: Mapping[int, int]) -> tuple[float, float, int]:
    """(rating, share, count): the largest share of ratings that lie within two neighbouring tenths, and of how many."""
    count = sum(bins.values())
    if not count:
        return 0.0, 0.0, 0
    best = max(bins, key=lambda b: (bins[b] + bins.get(b + 1, 0), bins[b]))
    return best / _BIN, (bins[best] + bins.get(best + 1, 0)) / count, count


def length_correlation(pairs: Sequence[tuple[int, float]]) -> float | None:
    """Spearman's correlation of length and reward; None for too few, or where one of them doesn't vary."""
    if len(pairs) < ENOUGH:
        return None
    return spearman([length for length, _ in pairs], [reward for _, reward in pairs])
