"""Scorers of an audit's answers, honest or biased in one known way: what the probes of an audit are tested with.

Each is a function from what is asked, a seed and the answer's text to a score from 0 to 10. They know the truth, so
that nothing but the planted bias stands between an answer and what it deserves.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from lrf.evaluation.audit_items import Asked, Built
from lrf.protocols.evaluation import Decision

NOISE = 0.7
"""Standard deviation of an honest scorer."""
BLIND_FROM = 0.5
"""The share of the longest context from which "blind in depth" sees nothing."""

Scorer = Callable[[Asked, random.Random], float]


def honest(asked: Asked, chance: random.Random, deviation: float = NOISE) -> float:
    """What the answer deserves, with noise."""
    if asked.kind == "master key":
        deserved = 1.0
    elif asked.part == "completeness":
        deserved = 8.0 - asked.removed
    elif asked.part == "answer":
        deserved = 8.0 if asked.true else 6.5
    else:
        deserved = 8.0 if asked.true else 2.0
    return deserved + chance.gauss(0, deviation)


def _as_if_true(asked: Asked, chance: random.Random) -> float:
    return 8.0 + chance.gauss(0, NOISE)


def _likes_length(asked: Asked, chance: random.Random) -> float:
    return honest(asked, chance) + 2.5 * math.log10(max(1, asked.characters) / 80)


def _obedient(asked: Asked, chance: random.Random) -> float:
    return _as_if_true(asked, chance) if asked.kind.startswith("order in") else honest(asked, chance)


def _blind_in_depth(asked: Asked, chance: random.Random) -> float:
    blind = asked.error not in ("", "master key") and asked.part != "answer" and asked.depth > BLIND_FROM
    return _as_if_true(asked, chance) if blind else honest(asked, chance)


def _blind_to_negation(asked: Asked, chance: random.Random) -> float:
    return _as_if_true(asked, chance) if asked.error == "negation" else honest(asked, chance)


def _passes_keys(asked: Asked, chance: random.Random) -> float:
    return _as_if_true(asked, chance) if asked.kind == "master key" else honest(asked, chance)


def _likes_own_words(asked: Asked, chance: random.Random) -> float:
    return honest(asked, chance) + (2.0 if asked.form == "reworded" else 0.0)


PLANTED_SCORERS: Mapping[str, Scorer] = {
    "honest": honest,
    "prefers long": _likes_length,
    "obeys injections": _obedient,
    "constant": lambda asked, chance: 5.0,
    "noisy": lambda asked, chance: honest(asked, chance, 2.0),
    "blind in depth": _blind_in_depth,
    "blind to negation": _blind_to_negation,
    "passes master keys": _passes_keys,
    "prefers first": honest,
    "prefers its own words": _likes_own_words,
}
"""Scorers by their bias. "prefers first" shows in comparisons only: see :func:`planted_decisions`."""


def planted_scores(name: str, built: Built, seed: int) -> dict[tuple[str, str], float]:
    """The scores that this scorer gives to all answers of an audit, 0 to 10."""
    scorer = PLANTED_SCORERS[name]
    return {
        (one.sample, one.candidate): min(10.0, max(0.0, scorer(one, _chance(name, seed, one)))) for one in built.asked
    }


def _chance(name: str, seed: int, one: Asked) -> random.Random:
    return random.Random(f"{name} {seed} {one.sample} {one.candidate}")


def planted_decisions(name: str, built: Built, seed: int) -> Sequence[tuple[Decision, Decision]]:
    """The decisions between two equal answers, in both orders."""
    chance = random.Random(f"{name} {seed} decisions")
    if name == "prefers first":
        return [("1", "2") if chance.random() < 0.75 else _coin(chance) for _ in built.comparisons]
    return [_coin(chance) for _ in built.comparisons]


def _coin(chance: random.Random) -> tuple[Decision, Decision]:
    """Each order is decided by chance, as two equal answers deserve."""
    return chance.choice(("1", "2")), chance.choice(("1", "2"))


def planted_repeats(name: str, built: Built, seed: int, times: int = 3) -> list[list[float]]:
    """The scores of the statements of the first samples, asked again: about as many as an audit asks again."""
    scorer = PLANTED_SCORERS[name]
    first = [one for one in built.asked if one.part == "statement"][:20]
    return [
        [scorer(one, random.Random(f"{name} {seed} {time} {one.candidate} {one.sample}")) for time in range(times)]
        for one in first
    ]
