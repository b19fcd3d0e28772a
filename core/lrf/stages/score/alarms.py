"""Alarms about a judge, raised at the end of scoring. An alarm never ends a run.

They are computed in one pass over the rewards, in memory that doesn't grow with them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrf.errors import Reason
from lrf.stages.score.correlation import spearman
from lrf.stages.stage import Alarm

ENOUGH = 20
"""Fewer ratings, rewards or calls than this raise no alarm."""

SAME_SHARE = 0.95
LENGTH_CORRELATION = 0.8
ASKED_AGAIN_SHARE = 0.1
KEPT = 10_000
_BIN = 10  # ratings are counted in tenths


@dataclass(slots=True)
class Alarms:
    """Takes in the rewards of a run one after another.

    Rewards and lengths of up to :data:`KEPT` random answers are kept for their correlation.
    """

    seed: int = 0
    _ratings: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _kept: list[tuple[int, float]] = field(default_factory=list)
    _rewards: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, ratings: Mapping[str, float | None], reward: float | None, length: int | None) -> None:
        """Take in one candidate. ``length`` is that of its text in characters, None if unknown."""
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

    def raised(self, asked: Iterable[tuple[str, int, int]]) -> list[Alarm]:
        """The alarms. ``asked``: each dimension with its replies, and how many of them had to be asked for again."""
        alarms = [_same_rating(dimension, bins) for dimension, bins in sorted(self._ratings.items())]
        alarms.append(_length(self._kept))
        alarms += [_asked_again(*of_dimension) for of_dimension in asked]
        return [alarm for alarm in alarms if alarm is not None]


def prompt_cut_alarms(reasons: Mapping[str, int]) -> list[Alarm]:
    """The alarms about prompts that a server cut. ``reasons`` counts candidates by "dimension: reason"."""
    cut = {
        name.rpartition(": ")[0]: count for name, count in reasons.items() if name.endswith(f": {Reason.PROMPT_CUT}")
    }
    return [
        Alarm(
            alarm=str(Reason.PROMPT_CUT),
            dimension=dimension,
            of=count,
            message=f"{dimension}: the server dropped a part of the prompts of {count:,} candidates; they are unscored",
        )
        for dimension, count in cut.items()
    ]


def _same_rating(dimension: str, bins: Mapping[int, int]) -> Alarm | None:
    rating, share, count = most_common_rating(bins)
    if count < ENOUGH or share < SAME_SHARE:
        return None
    message = (
        f"{dimension}: {share:.0%} of {count:,} ratings are (nearly) {rating:g}; does the judge tell answers apart? "
        "Look into judgements.jsonl"
    )
    return Alarm(alarm="same_rating", message=message, dimension=dimension, share=round(share, 4), of=count)


def _length(pairs: Sequence[tuple[int, float]]) -> Alarm | None:
    correlation = length_correlation(pairs)
    if correlation is None or abs(correlation) < LENGTH_CORRELATION:
        return None
    which = "longer" if correlation > 0 else "shorter"
    message = (
        f"rewards follow the answers' length (Spearman {correlation:.2f} over {len(pairs):,} answers): {which} answers "
        "are rewarded; `lrf bench LABELS --run RUN` tells whether people agree"
    )
    return Alarm(alarm="length", message=message, correlation=round(correlation, 4), of=len(pairs))


def _asked_again(dimension: str, replies: int, again: int) -> Alarm | None:
    if replies < ENOUGH or again < ASKED_AGAIN_SHARE * replies:
        return None
    share = again / replies
    message = (
        f"{dimension}: {share:.0%} of {replies:,} replies had to be asked for again, since the one before was cut off "
        "or held no mark; each is paid for"
    )
    return Alarm(alarm="asked_again", message=message, dimension=dimension, share=round(share, 4), of=replies)


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
