"""Benchmarks of one score an answer: RewardBench 2 and RM-Bench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lrf.errors import DataError
from lrf.protocols import BenchmarkItem, Judged, Recorded
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow
from lrf_benchmarks.pairwise import by_group, paths_of
from lrf_benchmarks.rows import (
    FieldError,
    RewardsOnly,
    id_of,
    mean_of,
    number_of,
    percent,
    question,
    questions,
    text_of,
    texts_of,
)
from lrf_benchmarks.settings import BenchmarkSettings


def scores_of(judged: Judged) -> list[float] | None:
    """All scores; None where one is missing."""
    scores = [score for score in judged.scores if score is not None]
    return scores if scores and len(scores) == len(judged.scores) else None


class RewardBench2(RewardsOnly):
    """RewardBench 2 (arXiv 2506.01937): rows of id, prompt, chosen, rejected, subset, num_correct.

    Best of four: an only highest score for the correct answer is right, and of k that share the highest the correct one
    counts 1/k. Ties: see :func:`ties_score`. Overall: the mean of the subsets. In per cent. A question in which a score
    is missing is wrong.
    """

    compares = False

    def __init__(self, settings: BenchmarkSettings) -> None:
        self._path = settings.path

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        return questions(rows_of(self._path), self._question)

    def _question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        chosen, rejected = texts_of(row, "chosen"), texts_of(row, "rejected")
        subset, name = text_of(row, "subset"), id_of(row, number)
        correct = int(number_of(row, "num_correct")) if row.get("num_correct") is not None else len(chosen)
        if subset == "Ties" and not name.startswith(("ref:", "tied:")):
            raise FieldError(f"id: expected ref:N or tied:N in the subset Ties; got {name[:40]!r}")
        if not 0 < correct < len(chosen) + len(rejected):
            raise FieldError(
                f"num_correct: {correct} of {len(chosen) + len(rejected)} answers leaves none to tell apart"
            )
        return question(name, text_of(row, "prompt"), [*chosen, *rejected], correct, subset)

    def right(self, judged: Judged) -> float | None:
        scores = scores_of(judged)
        if scores is None:
            return None
        if judged.group == "Ties":
            return float(min(scores[: judged.label]) > max(scores[judged.label :]))
        best = [i for i, score in enumerate(scores) if score == max(scores)]
        return float(sum(i < judged.label for i in best) / len(best))

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        figures: dict[str, float | None] = {}
        for subset, ones in by_group(judged).items():
            share = ties_score(ones) if subset == "Ties" else mean_of(self.right(one) or 0.0 for one in ones)
            figures[subset] = None if share is None else share * 100
        return {**figures, "overall": mean_of(figures.values())}


def ties_score(judged: Sequence[Judged]) -> float | None:
    """The score of the subset Ties, 0 to 1.

    With the gap (worst correct - best wrong) and the spread (best correct - worst correct): 0.30 share of tied prompts
    with a gap above 0 + 0.30 the same of reference prompts + 0.20 share with tied gap > spread + 0.20 share with the
    smaller gap of tied and reference > spread + 0.01 mean tanh(smaller gap / spread - 1), NaN as 0. None where either
    kind of prompt is missing.
    """
    gaps: dict[str, dict[str, tuple[float, float]]] = {"ref": {}, "tied": {}}
    for one in judged:
        kind, _, number = one.id.partition(":")
        scores = scores_of(one)
        right, wrong = (scores[: one.label], scores[one.label :]) if scores else ([0.0], [0.0])  # unscored: no gap
        gaps[kind][number] = (min(right) - max(wrong), max(right) - min(right))
    if not gaps["ref"] or not gaps["tied"]:
        return None
    accuracy = {kind: np.mean([gap > 0 for gap, _ in of.values()]) for kind, of in gaps.items()}
    both = [number for number in gaps["tied"] if number in gaps["ref"]]
    if not both:
        return float(0.30 * accuracy["tied"] + 0.30 * accuracy["ref"])
    tied = np.array([gaps["tied"][n][0] for n in both])
    spread = np.array([gaps["tied"][n][1] for n in both])
    smaller = np.minimum(tied, np.array([gaps["ref"][n][0] for n in both]))
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.nan_to_num(np.tanh(smaller / spread - 1), nan=0.0)
    return float(
        0.30 * accuracy["tied"] + 0.30 * accuracy["ref"] + 0.20 * np.mean(tied > spread)
        + 0.20 * np.mean(smaller > spread) + 0.01 * np.mean(margin)
    )  # fmt: skip


class RmBench:
    """RM-Bench (arXiv 2410.16184): rows of id, prompt, chosen [3], rejected [3], domain.

    The answers are concise, detailed and detailed with Markdown. The matrix says whether chosen i scores strictly above
    rejected j: easy_acc is the mean below its diagonal, normal_acc on it, hard_acc above it. All of them by domain,
    with the rows of both kinds of safety together; then means of the domains, which count alike. In per cent. A missing
    score is a comparison that is wrong. Without a field domain it is the file's name (chat_filtered.json).
    """

    compares = False
    _DOMAINS = ("chat", "math", "code", "safety")

    def __init__(self, settings: BenchmarkSettings) -> None:
        self._path = settings.path

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        for path in paths_of(self._path):
            domain = path.name.partition(".")[0].removesuffix("_filtered")
            yield from questions(rows_of(path), partial(self._question, domain))

    def _question(self, domain: str, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        answers = [texts_of(row, name, 3) for name in ("chosen", "rejected")]
        if any(len(texts) != 3 for texts in answers):
            raise FieldError("chosen, rejected: expected three texts each")
        name = id_of(row, number)
        group = text_of(row, "domain") if row.get("domain") else domain
        if not group.startswith(self._DOMAINS):
            raise FieldError(f"domain: expected {', '.join(self._DOMAINS)} (or a file named so); got {group[:40]!r}")
        return question(name, text_of(row, "prompt"), [*answers[0], *answers[1]], None, group)

    def recorded(self, path: Path) -> Iterator[Recorded]:
        """Rows with ``id``, ``score_chosen`` [3] and ``score_rejected`` [3], as the authors' code writes them."""
        for made in questions(rows_of(path), self._judgement):
            if isinstance(made, BadRow):
                raise DataError(f"{made.file}:{made.line}: {made.message}")
            yield made

    def _judgement(self, row: Mapping[str, Any], number: int) -> Recorded:
        scores: list[float | None] = []
        for name in ("score_chosen", "score_rejected"):
            values = row.get(name)
            if not isinstance(values, list) or len(values) != 3:
                raise FieldError(f"{name}: expected three numbers")
            scores += [None if value is None else number_of({name: value}, name) for value in values]
        return Recorded(id_of(row, number), scores=tuple(scores))

    def right(self, judged: Judged) -> float | None:
        return None if scores_of(judged) is None else float(_matrix([judged]).mean())

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        domains = {name: [one for one in judged if one.group.startswith(name)] for name in self._DOMAINS}
        matrices = {name: _matrix(ones) for name, ones in domains.items() if ones}
        figures: dict[str, JSON] = {name: percent([float(m.mean())]) for name, m in matrices.items()}
        overall = mean_of(figures.values())
        if matrices:
            together = np.mean(list(matrices.values()), axis=0)
            below, above = np.tril_indices(3, -1), np.triu_indices(3, 1)
            figures |= {
                "hard_acc": float(together[above].mean() * 100),
                "normal_acc": float(np.diag(together).mean() * 100),
                "easy_acc": float(together[below].mean() * 100),
            }
        missing = [name for name in self._DOMAINS if name not in matrices]
        return {**figures, "total_avg_acc": overall, "domains_missing": missing}


def _matrix(judged: Sequence[Judged]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Shares of strict wins of chosen i (rows) over rejected j (columns), shape (3, 3), 0 to 1."""
    scores = np.array([[np.nan if s is None else s for s in (one.scores or (None,) * 6)] for one in judged])
    return np.asarray((scores[:, :3, None] > scores[:, None, 3:]).mean(axis=0), dtype=np.float64)
