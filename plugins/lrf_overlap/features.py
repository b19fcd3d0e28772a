"""What a statement has that its evidence lacks or contradicts, as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence, Set

from lrf_overlap.alignment import differences, pieces_of
from lrf_overlap.binding import detached
from lrf_overlap.comparison import Comparison
from lrf_overlap.denial import denied
from lrf_overlap.evidence import Evidence
from lrf_overlap.names import mixed
from lrf_overlap.order import is_converse, is_reversed
from lrf_overlap.scope import added, conflict
from lrf_overlap.sentence import Sentence
from lrf_overlap.sentences import analysed
from lrf_overlap.splitting import split

FEATURES = (
    "number", "number_elsewhere", "name", "detached", "foreign", "denied", "reversed", "exchanged", "scope",
    "scope_added",
    "renamed", "renumbered", "opposed", "swapped",
)  # fmt: skip
"""The names of the features, in order. Each is 0 where nothing is wrong, and 1 at most."""

_SURE = 0.7
"""The share of a clause from which on it surely speaks of the same thing."""
_NOTHING: frozenset[str] = frozenset()
_EXCEPT = frozenset({"except"})
_FEW_WORDS = 3
"""Words with content below which it says little that the evidence has none of them."""


def features(evidence: Evidence, statement: str) -> tuple[float, ...]:
    """The values of :data:`FEATURES` for a statement."""
    comparisons = [Comparison(evidence, sentence) for sentence in split(statement) if analysed(sentence).tokens]
    if not comparisons:
        return tuple(float(name == "foreign") for name in FEATURES)
    if len(comparisons) == 1:
        return _values(comparisons[0])
    weights = [len(c.statement.tokens) for c in comparisons]
    rows = [_values(c) for c in comparisons]
    return tuple(
        sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights) if name == "foreign" else max(column)
        for name, column in zip(FEATURES, zip(*rows, strict=True), strict=True)
    )


def _values(comparison: Comparison) -> tuple[float, ...]:
    kinds = [t.kind for t in comparison.statement.tokens]
    numbers = [p for p, kind in enumerate(kinds) if kind == "number"]
    names = [p for p, kind in enumerate(kinds) if kind == "name"]
    others = [found for found, kind in zip(comparison.anywhere, kinds, strict=True) if kind != "number"]
    return (
        _missing([_number_found(comparison, p) for p in numbers]),
        _missing([comparison.here[p] if comparison.anywhere[p] else 1.0 for p in numbers]),
        _missing([comparison.anywhere[p] for p in names]),
        detached(comparison),
        (1.0 - sum(others) / len(others)) ** 5 * min(1.0, len(others) / _FEW_WORDS) if others else 0.0,
        *_turned(comparison),
        _exchanged(comparison),
        *_scopes(comparison),
        *_differences(comparison),
    )


def _differences(comparison: Comparison) -> tuple[float, ...]:
    candidates = [pieces_of(comparison.evidence.sentences[n]) for n in comparison.best]
    renamed, *others = differences(pieces_of(comparison.text), candidates, comparison.evidence.text)
    if renamed < 1.0 and mixed(comparison.text, comparison.evidence):
        renamed = 1.0
    return renamed, *others


def _scopes(comparison: Comparison) -> tuple[float, float]:
    """How far the statement speaks of more or less than the evidence does, and how much of that is its own."""
    different, own = 0.0, 0.0
    for clause, covers in zip(comparison.statement.clauses, comparison.cover, strict=True):
        mine = _scopes_of(comparison.statement, comparison.statement.tokens[clause.start].clause)
        if not mine or not covers:
            continue
        pairs = [(_scopes_of(comparison.theirs[n][0], c), share) for n, c, share in covers]
        different = max(different, min(conflict(mine, theirs) * min(1.0, share / _SURE) for theirs, share in pairs))
        own = max(own, min(added(mine, theirs) for theirs, _ in pairs))
    return different, own


def _number_found(comparison: Comparison, place: int) -> float:
    """How surely the evidence has a number. One hour may be "an hour" or "hourly", so 1 is never all lost."""
    said = comparison.statement.quantities[place][0]
    if said.kind == "ordinal" and said.value <= 3:  # "next", "the runner-up"
        return max(comparison.anywhere[place], 0.5)
    return max(comparison.anywhere[place], 0.85 * (place in comparison.statement.ones))


def _turned(comparison: Comparison) -> tuple[float, float]:
    """Whether the statement denies what the evidence says, and whether the order of its parts is reversed.

    "A is larger than B" and "B is smaller than A" are both, and say the same.
    """
    how_surely, turned = denied(comparison), is_reversed(comparison)
    if turned and (how_surely or is_converse(comparison)):
        return 0.0, 0.0
    return how_surely, float(turned)


def _exchanged(comparison: Comparison) -> float:
    """The share of a clause that a clause of the evidence has, too, but with another part in the place of one.

    Only parts count that the evidence has elsewhere: others may be other words for the same.
    """
    most = 0.0
    for clause, counts in zip(comparison.statement.clauses, comparison.counts, strict=True):
        for (n, c), known in counts.items():
            if len(clause) > 2 and len(clause) / 3 <= known < len(clause):
                theirs, places = comparison.theirs[n]
                other = next(part for part in theirs.clauses if theirs.tokens[part.start].clause == c)
                most = max(most, _one_part(comparison, clause, places, other, known))
    return most


def _one_part(
    comparison: Comparison, clause: range, places: Sequence[Sequence[int]], other: range, known: int
) -> float:
    """The share of the clause that the other one has around one part; 0 without such a part.

    ``known``: how many tokens of the clause the other one has.
    """
    start, stop = other.start, other.stop
    same = [[q for q in places[p] if start <= q < stop] if places[p] else () for p in clause]
    first = next(n for n, found in enumerate(same) if not found)
    stop = next((n for n in range(first, len(same)) if same[n]), len(same))
    before = max(same[first - 1]) if first else other.start - 1
    after = min(same[stop]) if stop < len(same) else other.stop
    part = range(clause.start + first, clause.start + stop)
    edge = first == 0 or stop == len(same)
    if not 1 < after - before <= 7 or len(part) > 5:
        return 0.0
    if comparison.statement.tokens[part[0]].kind == "han":
        if edge and (known < 0.5 * len(same) or len(same) < 4):
            return 0.0
        inner = part[1:-1] if not edge and len(part) > 2 else part  # pairs at its ends have a character outside
        return known / len(same) if any(comparison.anywhere[p] == 1.0 for p in inner) else 0.0
    if any(comparison.anywhere[p] < 1.0 for p in part):
        return 0.0
    return known / len(same)


def _scopes_of(sentence: Sentence, clause: int) -> Set[str]:
    """What a clause says of how much, and whether its sentence makes an exception."""
    scopes = sentence.scopes.get(clause, _NOTHING)
    return scopes | _EXCEPT if any("except" in other for other in sentence.scopes.values()) else scopes


def _missing(found: Sequence[float]) -> float:
    """0 if everything was found; else from 0.5, for a part of it, to 1, for all."""
    lost = sum(1.0 - f for f in found)
    return min(1.0, lost) * 0.5 + 0.5 * lost / len(found) if lost else 0.0
