"""Trivial baselines of a benchmark: what costs nothing and looks at nothing that matters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from lrf.protocols import BenchmarkItem, Judged
from lrf.protocols.evaluation import Decision
from lrf.types import Candidate

BASELINES = ("longer wins", "shorter wins", "random", "always the first", "overlap")

_WORD = re.compile(r"[㐀-鿿]|[^\W_]+")


def words_of(text: str) -> set[str]:
    """The words of a text in lower case; of Chinese its characters."""
    return set(_WORD.findall(text.lower()))


def overlap(answer: str, words: Set[str]) -> float:
    """The share of the answer's words that are among the words of a text, 0 to 1."""
    own = words_of(answer)
    return len(own & words) / len(own) if own else 0.0


def placed(question: BenchmarkItem) -> tuple[Candidate, ...]:
    """The candidates in an order that a hash of the row decides, so that no place is always the right one's."""
    return tuple(sorted(question.sample.candidates, key=lambda c: share_of(question.sample.id, question.group, c.id)))


def share_of(*parts: str) -> float:
    """A number from 0 to below 1 that a hash of the parts decides."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def baselines_of(question: BenchmarkItem, seed: int, compares: bool) -> dict[str, Judged]:
    """What each baseline says. ``compares``: the question has two answers, so "first" can mean the first shown."""
    sample = question.sample
    words = words_of("\n".join(d.text for d in sample.documents) or sample.query)
    places = {c.id: n for n, c in enumerate(placed(question))}
    scores: dict[str, Callable[[Candidate], float]] = {
        "longer wins": lambda c: float(len(c.text)),
        "shorter wins": lambda c: -float(len(c.text)),
        "random": lambda c: 10 * share_of(str(seed), sample.id, question.group, c.id),
        "always the first": lambda c: -float(places[c.id]),
        "overlap": lambda c: 10 * overlap(c.text, words),
    }
    said = {
        name: Judged(sample.id, question.label, question.group, tuple(score(c) for c in sample.candidates))
        for name, score in scores.items()
    }
    if compares:
        first: tuple[Decision, Decision] = ("1", "2")
        said["always the first"] = replace(said["always the first"], scores=(), decisions=first)
    if len(sample.candidates) == 1:
        said["always the first"] = replace(said["always the first"], scores=(10.0,))
    return said


def on_the_scale(name: str, judged: Sequence[Judged]) -> list[Judged]:
    """Lengths of single answers as ranks from 0 to 10, since a threshold of the reward's scale is laid on them."""
    if name not in ("longer wins", "shorter wins") or any(len(one.scores) != 1 for one in judged):
        return list(judged)
    ordered = sorted(one.scores[0] or 0.0 for one in judged)
    ranks = {value: 10 * rank / max(1, len(ordered) - 1) for rank, value in enumerate(ordered)}
    return [replace(one, scores=(ranks[one.scores[0] or 0.0],)) for one in judged]
