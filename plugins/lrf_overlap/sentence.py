"""What is read of one sentence: its words with content, its clauses, and what its words do besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lrf_overlap.opposites import Signs
from lrf_overlap.quantity import Quantity


class Token(NamedTuple):
    """A word with content. ``key`` is equal for forms of one word; ``soft`` for words that are likely related.

    ``kind``: "word", "name", "han" (two Chinese characters) or "number". ``clause`` counts the clauses of a sentence.
    """

    key: str
    soft: str
    kind: str
    clause: int


class Opposite(NamedTuple):
    """A word that has opposites: its signs, ``plain`` and turned by a negation, and whether it is in the reach of one.

    ``denying``: whether a negation of it turns all that is said, as with "forbid" and "allow".
    """

    key: str
    place: int
    plain: Signs
    signs: Signs
    denied: bool
    denying: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence.

    Attributes
    ----------
    tokens: its words with content, in order.
    rank: for each token its place if passive constructions were active.
    places, placed: of each key, in the sentence and in a clause.
    clauses: the places of each clause's tokens.
    quantities: by the place of the token that stands for them.
    denied: the places of tokens within reach of a negation.
    refusing: the clauses with a verb that is a negation ("refuse", "forbid") or with "until".
    fronted: how many of its first tokens follow a preposition with which it begins: "in Rome …".
    negations: by clause, for each negation the places that it may deny.
    opposites: by clause, the words that have opposites.
    privatives: by clause, of each "unqualified" its key and that of "qualified".
    converses: the same of verbs that parties of one event do (buy, sell); negations don't turn them.
    ones: the places of "one" and "一" before a unit or a measure.
    markers: prepositions that tell two parties apart, each with the place of the token after it.
    initials: of the runs of capitalised words.
    lists: the clauses of a Chinese sentence that name several things at once: 甲和乙.
    scopes: for each clause what it says of how much: see :mod:`lrf_overlap.scope`.
    """

    tokens: tuple[Token, ...]
    rank: tuple[int, ...]
    quantities: dict[int, tuple[Quantity, ...]]
    negations: Mapping[int, list[tuple[int, ...]]]
    opposites: Mapping[int, list[Opposite]]
    privatives: Mapping[int, list[tuple[str, str]]]
    converses: frozenset[tuple[int, int]]
    initials: frozenset[str]
    markers: tuple[tuple[str, int], ...]
    places: dict[str, list[int]] = field(default_factory=dict)
    placed: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    clauses: tuple[range, ...] = ()
    denied: frozenset[int] = frozenset()
    fronted: int = 0
    refusing: frozenset[int] = frozenset()
    ones: frozenset[int] = frozenset()
    scopes: dict[int, set[str]] = field(default_factory=dict)
    lists: frozenset[int] = frozenset()
