"""A neutral order of a sample's candidates, for ties; and whether two candidates have the same text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from lrf.types import Candidate


def by_hash(sample_id: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates by a hash of the sample's and their own id: the same every time and on every machine.

    Neither a candidate's place nor its length decides, so ties add no bias to the pairs.
    """

    def key(candidate: Candidate) -> tuple[bytes, str]:
        both = json.dumps([sample_id, candidate.id]).encode()
        return hashlib.blake2b(both, digest_size=8).digest(), candidate.id

    return sorted(candidates, key=key)


def differ(one: Candidate, other: Candidate) -> bool:
    """Whether the texts differ in more than white space around them, which chat templates may take off."""
    return one.text.strip() != other.text.strip()
