"""People's own labels: preferences between two answers, and ratings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from lrf.protocols import BenchmarkItem, Judged
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow
from lrf_benchmarks.pairwise import PairwiseRows, decisions_of
from lrf_benchmarks.rows import RewardsOnly, id_of, number_of, one_of, percent, question, questions, text_of
from lrf_benchmarks.settings import BenchmarkSettings


class OwnPairs(PairwiseRows):
    """Your own preferences: rows of query, answer_a, answer_b, preferred ("a", "b" or "tie"); context and id if any.

    Accuracy, of rows that people don't call a tie: the better answer must win; a tie of the judge counts half
    (``accuracy_ties_half``), not at all (``accuracy_without_ties``) or as wrong (``accuracy_ties_wrong``). Orders
    without a readable decision are left out of these; ``judged`` is the share of the others. In per cent. Among single
    questions, a row that people call a tie is right where the judge calls it one, too.
    """

    def question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        label = one_of(row, "preferred", {"a": "1", "b": "2", "A": "1", "B": "2", "tie": "tie"})
        name = id_of(row, number)
        answers = [text_of(row, f"answer_{letter}", empty=True) for letter in "ab"]
        documents = [text_of(row, "context")] if row.get("context") else []
        return question(name, text_of(row, "query"), answers, label, str(row.get("group") or ""), documents)

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        pairs = [(d, one.label) for one in judged if one.label != "tie" for d in decisions_of(one) if d is not None]
        both = [decisions_of(one) for one in judged]
        return {
            "accuracy_ties_half": percent([0.5 if d == "tie" else float(d == label) for d, label in pairs]),
            "accuracy_without_ties": percent([float(d == label) for d, label in pairs if d != "tie"]),
            "accuracy_ties_wrong": percent([float(d == label) for d, label in pairs]),
            "ties": percent([float(d == "tie") for d, _ in pairs]),
            "judged": percent([float(d is not None) for a, b in both for d in (a, b)]),
            "consistency": percent([float(a == b) for a, b in both if a is not None and b is not None]),
        }


class OwnRatings(RewardsOnly):
    """Your own ratings: rows of query, answer, rating (any scale, more is better); context, sample and id if any.

    Rows of one ``sample`` (or of the same query) are answers to one question. Spearman's rho and Kendall's tau-b are
    over all answers; pairwise accuracy is within questions, over answers that people rated differently.
    """

    compares = False

    def __init__(self, settings: BenchmarkSettings) -> None:
        self._path = settings.path

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        return questions(rows_of(self._path), self._question)

    def _question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        query = text_of(row, "query")
        name = id_of(row, number)
        group = str(row.get("sample") or query)
        documents = [text_of(row, "context")] if row.get("context") else []
        return question(name, query, [text_of(row, "answer", empty=True)], number_of(row, "rating"), group, documents)

    def right(self, judged: Judged) -> float | None:
        return None

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        from scipy import stats

        scored = [(one.group, one.label, one.scores[0]) for one in judged if one.scores and one.scores[0] is not None]
        people, scores = [r for _, r, _ in scored], [s for *_, s in scored]
        varied = len(set(people)) > 1 and len(set(scores)) > 1
        by_question: dict[str, list[tuple[float, float]]] = {}
        for group, rating, score in scored:
            by_question.setdefault(group, []).append((rating, score))
        won = [
            0.5 if a[1] == b[1] else float((a[1] > b[1]) == (a[0] > b[0]))
            for answers in by_question.values()
            for a, b in combinations(answers, 2)
            if a[0] != b[0]
        ]
        return {
            "spearman": float(stats.spearmanr(people, scores).statistic) if varied else None,
            "kendall": float(stats.kendalltau(people, scores).statistic) if varied else None,
            "pairwise_accuracy": percent(won),
            "pairs": len(won),
        }
