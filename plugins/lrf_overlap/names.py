"""Whether a name is put together of parts of several names of the evidence."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from lrf_overlap.alignment import pieces_of
from lrf_overlap.evidence import Evidence
from lrf_overlap.lexicon import TITLES


class _Parts(NamedTuple):
    """Neighbouring parts of names in a sentence, by their keys, and which of them are a first and a second one."""

    pairs: Set[tuple[str, str]]
    first: Set[str]
    second: Set[str]


def mixed(statement: str, evidence: Evidence) -> bool:
    """Whether two parts of a name stand in the evidence, but apart and each beside another one: Ann Lee, Bob Ray."""
    return any(
        _apart(first, second, evidence)
        for first, second in _parts_of(statement).pairs
        if evidence.where(first) and evidence.where(second)
    )


@lru_cache(maxsize=4096)
def _parts_of(sentence: str) -> _Parts:
    """The parts of names in a sentence; titles are none."""
    pairs = {
        (one.key, other.key)
        for one, other in pairwise(pieces_of(sentence))
        if one.kind == other.kind == "name" and one.key not in TITLES and other.key not in TITLES
    }
    return _Parts(pairs, {one for one, _ in pairs}, {other for _, other in pairs})


def _apart(first: str, second: str, evidence: Evidence) -> bool:
    found = [_parts_of(evidence.sentences[n]) for n in {*evidence.where(first), *evidence.where(second)}]
    together = any((first, second) in parts.pairs for parts in found)
    return not together and any(first in parts.first or second in parts.second for parts in found)
