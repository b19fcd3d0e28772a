"""The comparison of a run with a file of labels."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lrf.evaluation.labels import known_labels, read_labels
from lrf.evaluation.measures import Accuracy, Correlation, accuracy, correlation, preferences_of
from lrf.evaluation.run import read_run
from lrf.types import JSON

BASELINES = {"longer": "longer wins", "first": "first wins"}


@dataclass(slots=True)
class Agreement:
    """How well each score agrees with people: the reward, each dimension's rating, and the two trivial baselines.

    Parameters
    ----------
    kind: "preferences" or "ratings".
    labels, samples: how many labels on how many samples were used.
    skipped: rows about candidates that the run doesn't have.
    alike: pairs that people rated alike, which are left out.
    accuracies, correlations: by the score's name.
    without_lengths: why "longer wins" is missing, or None.
    """

    kind: str
    labels: int
    samples: int
    skipped: int = 0
    alike: int = 0
    accuracies: dict[str, Accuracy] = field(default_factory=dict)
    correlations: dict[str, Correlation] = field(default_factory=dict)
    without_lengths: str | None = None

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "kind": self.kind,
            "labels": self.labels,
            "samples": self.samples,
            "skipped": self.skipped,
            "alike": self.alike,
            "pairwise": {name: a.as_json() for name, a in self.accuracies.items()},
            "rank_correlation": {name: c.as_json() for name, c in self.correlations.items()},
            "without_lengths": self.without_lengths,
        }


def agreement(labels: Path, run: Path, *, seed: int = 0, skip_unknown: bool = False) -> Agreement:
    """Compare the scores of a run with people's labels. ``seed`` is that of the bootstrap.

    Raises :class:`lrf.errors.DataError` for labels that can't be used and :class:`lrf.errors.RunError` for a folder
    that is no run.
    """
    read = read_labels(labels)
    scored = read_run(run, read.samples)
    kept = known_labels(read, scored.known, skip_unknown=skip_unknown)
    named = {"reward": "reward"}
    for name in scored.dimensions:
        key = f"rating: {name}"
        named[key] = key if name == "reward" else name
    named |= BASELINES
    if scored.missing_lengths is not None:
        del named["longer"]
    result = Agreement(
        "ratings" if read.ratings else "preferences",
        len(kept.preferences) + len(kept.ratings),
        len(kept.samples),
        kept.skipped,
        without_lengths=scored.missing_lengths,
    )
    by_people: dict[str, dict[str, list[float]]] = {}
    for r in kept.ratings:
        by_people.setdefault(r.sample, {}).setdefault(r.candidate, []).append(r.rating)
    ratings = {s: {c: statistics.fmean(values) for c, values in rated.items()} for s, rated in by_people.items()}
    pairs, result.alike = preferences_of(ratings)
    pairs += [(p.sample, p.preferred, p.other) for p in kept.preferences]
    for key, name in named.items():
        result.accuracies[name] = accuracy(pairs, scored.scores[key], seed)
        if read.ratings:
            result.correlations[name] = correlation(ratings, scored.scores[key], seed)
    return result
