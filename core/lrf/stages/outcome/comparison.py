"""Two runs compared: what changed in settings, rewards, ranks, pairs and cost, and which samples moved most."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from lrf.config.diff import changes
from lrf.stages.outcome.figures import scores
from lrf.stages.outcome.joined import ScoredSample
from lrf.stages.outcome.loading import ScoredRun
from lrf.stages.score.correlation import spearman
from lrf.text.excerpt import excerpt
from lrf.types import JSON

MOVED_SHOWN = 30


def compare_runs(run: ScoredRun, other: ScoredRun) -> dict[str, JSON]:
    """How ``run`` differs from ``other``, as JSON. Samples and candidates are matched by their ids.

    Memory: the rewards of ``other``. Raises :class:`lrf.RunError` for damaged files.
    """
    before = {sample.id: {c.id: scores(c.reward) for c in sample.candidates}
              for sample in other}  # fmt: skip
    tally = _Tally()
    for sample in run:
        tally.add(sample, before.pop(sample.id, None))
    return {
        "run": run.name,
        "other": other.name,
        "settings": changes(other.settings, run.settings) if run.settings and other.settings else [],
        "only_in_run": tally.only_here,
        "only_in_other": len(before),
        **tally.as_json(),
        "pairs": _pairs(_chosen(run.files.pairs), _chosen(other.files.pairs)),
        "cost": {"run": _cost(run), "other": _cost(other)},
    }


Values = dict[str, float | None]


@dataclass(slots=True)
class _Tally:
    """Takes in samples of both runs."""

    only_here: int = 0
    samples: int = 0
    candidates: int = 0
    became_scored: int = 0
    became_unscored: int = 0
    _differences: dict[str, list[float]] = field(default_factory=dict)
    _correlations: list[float] = field(default_factory=list)
    _same_best: list[bool] = field(default_factory=list)
    _moved: list[tuple[float, int, dict[str, JSON]]] = field(default_factory=list)

    def add(self, sample: ScoredSample, before: Mapping[str, Values] | None) -> None:
        if before is None:
            self.only_here += 1
            return
        self.samples += 1
        now = {c.id: scores(c.reward) for c in sample.candidates}
        both = [id_ for id_ in now if id_ in before]
        self.candidates += len(both)
        for name, new, old in ((n, v, before[id_].get(n)) for id_ in both for n, v in now[id_].items()):
            if new is not None and old is not None:
                self._differences.setdefault(name, []).append(new - old)
            elif name == "reward" and new != old:
                self.became_scored += new is not None
                self.became_unscored += new is None
        scored = [(id_, a, b) for id_ in both if (a := now[id_]["reward"]) is not None
                  and (b := before[id_]["reward"]) is not None]  # fmt: skip
        if scored:
            self._ranks(sample, scored)

    def _ranks(self, sample: ScoredSample, scored: list[tuple[str, float, float]]) -> None:
        rho = spearman([a for _, a, _ in scored], [b for _, _, b in scored])
        if rho is not None:
            self._correlations.append(rho)
        best_now, best_before = max(scored, key=lambda s: s[1]), max(scored, key=lambda s: s[2])
        self._same_best.append(best_now[0] == best_before[0])
        most = max(scored, key=lambda s: abs(s[1] - s[2]))
        entry = {
            "id": sample.id, "query": excerpt(sample.sample.query), "candidate": most[0], "reward": most[1],
            "before": most[2], "best": best_now[0], "best_before": best_before[0], "rho": rho,
        }  # fmt: skip
        item = (abs(most[1] - most[2]), -self.samples, entry)
        if len(self._moved) < MOVED_SHOWN:
            heapq.heappush(self._moved, item)
        else:
            heapq.heappushpop(self._moved, item)

    def as_json(self) -> dict[str, JSON]:
        return {
            "samples": self.samples,
            "candidates": self.candidates,
            "became_scored": self.became_scored,
            "became_unscored": self.became_unscored,
            "differences": {
                name: {"mean": fmean(d), "mean_absolute": fmean(map(abs, d)), "candidates": len(d)}
                for name, d in self._differences.items()
            },
            "rank_correlation": fmean(self._correlations) if self._correlations else None,
            "same_best": fmean(self._same_best) if self._same_best else None,
            "moved": [entry for size, _, entry in sorted(self._moved, reverse=True) if size > 0],
        }


def _chosen(path: Path) -> Iterator[tuple[str, str, str]]:
    """(sample, chosen, rejected) of each pair; none where the run has none."""
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                row = json.loads(line)
                yield row["sample_id"], row["chosen_id"], row["rejected_id"]


def _pairs(now: Iterator[tuple[str, str, str]], before: Iterator[tuple[str, str, str]]) -> dict[str, JSON]:
    old = set(before)
    counts = {"run": 0, "other": len(old), "same": 0, "turned_round": 0}
    for sample, chosen, rejected in now:
        counts["run"] += 1
        counts["same"] += (sample, chosen, rejected) in old
        counts["turned_round"] += (sample, rejected, chosen) in old
    return dict(counts)


def _cost(run: ScoredRun) -> dict[str, JSON]:
    score = run.summary.get("stages", {}).get("score", {})
    money = score.get("money", {}) if isinstance(score.get("money"), Mapping) else {}
    return {"calls": score.get("all_sittings", {}).get("calls"), "tokens": score.get("all_sittings", {}).get("tokens"),
            "spent": money.get("spent", {}), "seconds": score.get("score_seconds")}  # fmt: skip
