"""Whether a name is put together of parts of several names of the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from lrf_overlap.alignment import Piece, pieces_of
from lrf_overlap.evidence import Evidence
from lrf_overlap.lexicon import TITLES


def mixed(statement: str, evidence: Evidence) -> bool:
    """Whether two parts of a name stand in the evidence, but apart and each beside another one: Ann Lee, Bob Ray."""
    return any(
        _apart(first, second, evidence)
        for first, second in _pairs(pieces_of(statement))
        if evidence.where(first) and evidence.where(second)
    )


def _pairs(pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
    """The keys of neighbouring parts of names; titles are none."""
    for one, other in pairwise(pieces):
        if one.kind == other.kind == "name" and one.key not in TITLES and other.key not in TITLES:
            yield one.key, other.key


def _apart(first: str, second: str, evidence: Evidence) -> bool:
    numbers = {*evidence.where(first), *evidence.where(second)}
    pairs = {pair for number in numbers for pair in _pairs(pieces_of(evidence.sentences[number]))}
    return (first, second) not in pairs and any(one == first or other == second for one, other in pairs)
