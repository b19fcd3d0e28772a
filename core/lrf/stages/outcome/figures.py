"""The figures of a run, in one pass over its samples: what ran, distributions, ties, margins, cost.

Memory doesn't grow with the run but for the index: a line for each sample.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from lrf.reasons import Reason
from lrf.stages.outcome.joined import ScoredSample
from lrf.stages.outcome.loading import ScoredRun
from lrf.stages.score.correlation import spearman
from lrf.stages.score.gate import advice
from lrf.text.excerpt import excerpt
from lrf.types import JSON, Reward

BINS = 20
"""Of a histogram of ratings from 0 to 10, so each is half a point wide."""
KEPT = 2000
"""Candidates that correlations and the scatter plot are made of: the first ones, then a random choice of all."""
STEPS_SHOWN = 600
"""Steps of a training that are shown; of a longer one every n-th."""


Kept = tuple[str, str, dict[str, Any]]
"""A sample's and a candidate's id, and its scores with the length of its text."""


@dataclass(slots=True)
class Figures:
    """Takes in a run's samples, one after another.

    Parameters
    ----------
    index: a line for each sample, in order.
    """

    run: ScoredRun
    dimensions: list[str] = field(default_factory=list)
    index: list[dict[str, JSON]] = field(default_factory=list)
    _histograms: dict[str, list[int]] = field(default_factory=dict)
    _sums: dict[str, tuple[int, float]] = field(default_factory=dict)
    _reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    _kept: list[Kept] = field(default_factory=list)
    _seen: int = 0
    _pairs: Counter[str] = field(default_factory=Counter)
    _margins: list[int] = field(default_factory=lambda: [0] * BINS)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, sample: ScoredSample) -> None:
        """Take in one sample."""
        rewards = [c.reward.reward for c in sample.candidates if c.reward.reward is not None]
        for candidate in sample.candidates:
            reward = candidate.reward
            self.dimensions += [name for name in reward.ratings if name not in self.dimensions]
            values = scores(reward)
            for name, value in values.items():
                self._count(name, value)
            if reward.unscored is not None:
                self._reasons[reward.unscored.dimension, reward.unscored.reason] += 1
            self._keep((sample.id, candidate.id, {"length": len(candidate.text), **values}))
        self._compare(rewards)
        best = sample.candidates[0] if sample.candidates else None
        self.index.append(
            {
                "id": sample.id,
                "query": excerpt(sample.sample.query),
                "candidates": len(sample.candidates),
                "unscored": len(sample.candidates) - len(rewards),
                "best": best.id if best and best.rank else None,
                "highest": max(rewards, default=None),
                "lowest": min(rewards, default=None),
            }
        )

    def as_json(self) -> dict[str, JSON]:
        """All figures of the run: of the samples that were taken in, of its summary, journal and training."""
        return {**run_figures(self.run), **self._of_samples()}

    def _of_samples(self) -> dict[str, JSON]:
        """Distributions, correlations, ties, margins, reasons and the index of samples."""
        return {
            "dimensions": self.dimensions,
            "samples": self.index,
            "histograms": {name: _rounded(self._histograms[name], self._sums[name]) for name in self._histograms},
            "correlations": self._correlations(),
            "scatter": [
                [row["length"], round(row["reward"], 3), sample, candidate]
                for sample, candidate, row in self._kept
                if row["reward"] is not None
            ],
            "equal_pairs": {"pairs": self._pairs["pairs"], "equal": self._pairs["equal"]},
            "tied_best": self._pairs["tied_best"],
            "margins": self._margins,
            "unscored": [
                {"dimension": d, "reason": r, "candidates": n, "sentence": sentence(r), "help": advice(r)}
                for (d, r), n in self._reasons.most_common()
            ],
        }

    def _count(self, name: str, value: float | None) -> None:
        bins = self._histograms.setdefault(name, [0] * BINS)
        count, total = self._sums.get(name, (0, 0.0))
        if value is not None:
            bins[min(BINS - 1, max(0, int(value * BINS / 10)))] += 1
            count, total = count + 1, total + value
        self._sums[name] = count, total

    def _keep(self, row: Kept) -> None:
        self._seen += 1
        if len(self._kept) < KEPT:
            self._kept.append(row)
        elif (at := self._random.randrange(self._seen)) < KEPT:
            self._kept[at] = row

    def _compare(self, rewards: Sequence[float]) -> None:
        pairs = list(combinations(rewards, 2))
        self._pairs.update(pairs=len(pairs), equal=sum(a == b for a, b in pairs))
        if len(rewards) > 1:
            self._pairs["tied_best"] += rewards.count(max(rewards)) > 1
            self._margins[min(BINS - 1, int((max(rewards) - min(rewards)) * BINS / 10))] += 1

    def _correlations(self) -> list[dict[str, JSON]]:
        names = ["reward", *(f"rating: {name}" for name in self.dimensions), "length"]
        pairs = []
        for a, b in combinations(names, 2):
            both = [(r[a], r[b]) for *_, r in self._kept if r.get(a) is not None and r.get(b) is not None]
            rho = spearman(*zip(*both, strict=True)) if len(both) > 1 else None
            pairs.append({"a": a, "b": b, "rho": None if rho is None else round(rho, 3), "of": len(both)})
        return pairs


def _rounded(bins: list[int], counted: tuple[int, float]) -> dict[str, JSON]:
    count, total = counted
    return {"bins": bins, "rated": count, "mean": round(total / count, 3) if count else None}


def sentence(reason: str) -> str:
    """What a reason means, for people; empty for a plugin's own word."""
    return next((known.sentence for known in Reason if known == reason), "")


def scores(reward: Reward) -> dict[str, float | None]:
    """ "reward", and each dimension's rating as "rating: NAME"."""
    return {"reward": reward.reward, **{f"rating: {name}": rating for name, rating in reward.ratings.items()}}


def run_figures(run: ScoredRun) -> dict[str, JSON]:
    """What ran, its counts, alarms, cost, calls and training."""
    from lrf.stages.outcome.calls import call_figures

    summary, versions = run.summary, run.versions
    stages = summary.get("stages", {})
    return {
        "run": {
            "name": run.name,
            "status": summary.get("status"),
            "message": summary.get("message") or None,
            "seconds": summary.get("seconds"),
            "without_texts": run.without_texts,
            "lrf": versions.get("lrf"),
            "python": versions.get("python"),
            "plugins": versions.get("plugins", {}),
            "libraries": versions.get("libraries", {}),
            "judges": _models(run.settings.get("judges")),
            "settings": run.settings_text,
        },
        "counts": {name: _numbers(figures) for name, figures in stages.items() if isinstance(figures, Mapping)},
        "alarms": [*_messages(summary.get("alarms")), *_messages(stages.get("train", {}).get("alarms"))],
        "money": stages.get("score", {}).get("money"),
        "left_out": _left_out(run.files.left_out),
        "calls": call_figures(run.files.journal),
        "training": training(run.path / "policy"),
    }


def training(policies: Path) -> dict[str, JSON]:
    """The logged steps of each trainer that the run has used, by its name; of a long training every n-th."""
    return {log.parent.name: _thinned(_json_lines(log)) for log in sorted(policies.glob("*/training_log.jsonl"))}


def _thinned(steps: Iterable[JSON]) -> list[JSON]:
    kept: list[JSON] = []
    every = 1
    for number, step in enumerate(steps):
        if number % every == 0:
            kept.append(step)
        if len(kept) > 2 * STEPS_SHOWN:
            kept, every = kept[::2], every * 2
    return kept


def _json_lines(path: Path) -> Iterable[JSON]:
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                with suppress(ValueError):  # half a line: it is being written
                    if isinstance(row := json.loads(line), dict):
                        yield row


def _left_out(path: Path) -> dict[str, int]:
    """The samples without a pair by reason."""
    return dict(Counter(str(row.get("reason")) for row in _json_lines(path)).most_common())


def _models(judges: JSON) -> list[dict[str, JSON]]:
    blocks = judges if isinstance(judges, Mapping) else {}
    return [
        {"name": name, "type": block.get("type"), "model": block.get("model")}
        for name, block in blocks.items()
        if isinstance(block, Mapping)
    ]


def _numbers(figures: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: n for name, n in figures.items() if isinstance(n, int | float | str) and not isinstance(n, bool)}


def _messages(alarms: JSON) -> list[str]:
    """The alarms' sentences: objects with a message, or sentences."""
    found = alarms if isinstance(alarms, list) else []
    return [str(alarm.get("message")) if isinstance(alarm, Mapping) else str(alarm) for alarm in found]
