"""Checks of aggregators, pairing rules and sources, to be called from their own tests.

Each check raises AssertionError that says what is wrong, and returns None when nothing is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from types import MappingProxyType

from lrf.protocols import Aggregator, Pairing, Source
from lrf.testing.example_samples import scored_samples
from lrf.testing.require import must, must_be_number
from lrf.types import BadRow, LeftOut, PreferencePair, Preferences, Reward, Sample


def check_aggregator(
    aggregator: Aggregator,
    dimensions: Sequence[str] = ("helpfulness", "logicality", "faithfulness", "completeness"),
) -> None:
    """An aggregator is pure, blind to the order of dimensions, and makes a finite number or None of any ratings.

    ``dimensions`` are the names to try it with; at most five are used.
    """
    names = list(dimensions)[:5]
    choices: tuple[float | None, ...] = (None, 0.0, 3.5, 10.0)
    for values in itertools.product(choices, repeat=len(names)):
        ratings = dict(zip(names, values, strict=True))
        reward = aggregator.aggregate(MappingProxyType(ratings))
        must_be_number(reward, f"aggregate({ratings})")
        must(aggregator.aggregate(dict(ratings)) == reward, f"aggregate({ratings}) differs from call to call")
        turned = dict(reversed(ratings.items()))
        must(aggregator.aggregate(turned) == reward, f"the order of the dimensions changes aggregate({ratings})")
    nothing = aggregator.aggregate(dict.fromkeys(names))
    must(nothing is None, f"without a single rating the reward must be None, not {nothing}")


def check_pairing(pairing: Pairing, samples: Iterable[tuple[Sample, Sequence[Reward]]] = ()) -> None:
    """A pairing rule is pure and gives pairs of two different candidates of the sample, or a reason for giving none.

    It is tried on samples of 0 to 8 candidates with all kinds of rewards, and on ``samples`` of your own.
    """
    for sample, rewards in itertools.chain(scored_samples(), samples):
        what = f"pair() of the rewards {[r.reward for r in rewards]}"
        outcome = pairing.pair(sample, tuple(rewards))
        must(pairing.pair(sample, tuple(rewards)) == outcome, f"{what} differs from call to call")
        if isinstance(outcome, LeftOut):
            must(bool(outcome.reason.strip()), f"{what} leaves the sample out without a reason")
            continue
        made = Preferences((outcome,)) if isinstance(outcome, PreferencePair) else outcome
        must(isinstance(made, Preferences), f"{what} is a {type(outcome).__name__}")
        must(bool(made.pairs or made.listed), f"{what} has neither a pair nor a list, and no reason")
        reward_of = {c.id: r.reward for c, r in zip(sample.candidates, rewards, strict=True)}
        for pair in made.pairs:
            for candidate, reward in ((pair.chosen, pair.chosen_reward), (pair.rejected, pair.rejected_reward)):
                must(candidate in sample.candidates, f"{what}: {candidate.id!r} is no candidate of the sample")
                must(reward == reward_of[candidate.id], f"{what}: {candidate.id!r} doesn't have the reward {reward}")
            must(pair.chosen.id != pair.rejected.id, f"{what}: chosen and rejected are the same candidate")
        of_pairs = Counter(frozenset((pair.chosen.id, pair.rejected.id)) for pair in made.pairs)
        must(all(n == 1 for n in of_pairs.values()), f"{what} has two pairs of the same candidates")
        for candidate in made.listed or ():
            must(candidate in sample.candidates, f"{what}: {candidate.id!r} in the list is no candidate of the sample")


def check_source(source: Source) -> None:
    """A source gives the same samples and bad rows each time; ids are given once."""
    rows = list(source.read())
    for row in rows:
        must(isinstance(row, Sample | BadRow), f"read() gave a {type(row).__name__}")
    must(list(source.read()) == rows, "read() gives other rows the second time")
    counts = Counter(row.id for row in rows if isinstance(row, Sample))
    twice = next((i for i, count in counts.items() if count > 1), None)
    must(twice is None, f"the sample id {twice!r} is given twice")
