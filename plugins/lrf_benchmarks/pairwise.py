"""Benchmarks of two answers, of which one is better: LLMBar, JudgeBench, ContextualJudgeBench."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.protocols import BenchmarkItem, Judged, Recorded
from lrf.protocols.evaluation import Decision
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow
from lrf_benchmarks.rows import FieldError, one_of, percent, question, questions, text_of
from lrf_benchmarks.settings import BenchmarkSettings

OTHER: Mapping[Decision, Decision] = {"1": "2", "2": "1", "tie": "tie", None: None}


def decisions_of(judged: Judged) -> tuple[Decision, Decision]:
    """The decisions in both orders; of scores, which know no order, twice the same."""
    if judged.decisions:
        return judged.decisions[0], judged.decisions[1]
    if len(judged.scores) < 2 or judged.scores[0] is None or judged.scores[1] is None:
        return None, None
    first, second = judged.scores[0], judged.scores[1]
    decision: Decision = "tie" if first == second else "1" if first > second else "2"
    return decision, decision


def by_group(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The judgements by group, in the order in which the groups come."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.group, []).append(one)
    return groups


def paths_of(path: Path | Sequence[Path]) -> list[Path]:
    """The files that a setting names."""
    return [path] if isinstance(path, Path) else list(path)


class Pairwise:
    """What the benchmarks of two answers share. Their labels are "1" or "2", the better answer's place."""

    compares = True

    def __init__(self, settings: BenchmarkSettings) -> None:
        self._path = settings.path

    def right(self, judged: Judged) -> float | None:
        """The share of the two orders in which the judge agrees with the label; a tie of the judge alone is half."""
        decisions = decisions_of(judged)
        if None in decisions:
            return None
        return sum(1.0 if d == judged.label else 0.5 if d == "tie" else 0.0 for d in decisions) / 2


class PairwiseRows(Pairwise, ABC):
    """A benchmark of two answers whose rows are complete, whatever their file's name."""

    @abstractmethod
    def question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem | None:
        """The question in a row; None for one that the benchmark leaves out."""

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        return questions(rows_of(self._path), self.question)

    def recorded(self, path: Path) -> Iterator[Recorded]:
        for number, made in enumerate(questions(rows_of(path), self.judgement)):
            if isinstance(made, BadRow):
                raise DataError(f"{made.file}:{number + 1}: {made.message}")
            yield made

    def judgement(self, row: Mapping[str, Any], number: int) -> Recorded:
        raise FieldError("no layout of recorded judgements is published; give rows of sample_id, candidate_id, reward")


class LlmBar(PairwiseRows):
    """LLMBar (arXiv 2310.07641): rows of input, output_1, output_2, label (1 or 2).

    Rule of the authors' evaluate.py: an unreadable comparison is wrong. By rating, a tie counts for the second answer
    of the order that was asked for, so for one of the two orders; and where a rating can't be read, the first answer of
    each order wins. The kappas take "1" for one class and everything else for the other.
    """

    def question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        label = one_of(row, "label", {1: "1", 2: "2", "1": "1", "2": "2"})
        answers = [text_of(row, f"output_{n}", empty=True) for n in (1, 2)]
        return question(str(number), text_of(row, "input"), answers, label)

    def judgement(self, row: Mapping[str, Any], number: int) -> Recorded:
        results = row.get("results")
        last = results[-1] if isinstance(results, list) and results else None
        if not isinstance(last, Mapping):
            raise FieldError("results: expected a list of judgements")
        winners: list[Decision] = []
        for order in ("swap = False", "swap = True"):
            one = last.get(order)
            if not isinstance(one, Mapping) or "winner" not in one:
                raise FieldError(f"results: the last has no {order!r} with a winner")
            winners.append(one_of(one, "winner", {"1": "1", "2": "2", None: None}))
        return Recorded(str(number), decisions=tuple(winners))

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        from sklearn.metrics import cohen_kappa_score

        if not judged:
            return dict.fromkeys(("correct_average", "correct_both", "equal", "kappa_agreement"))
        n = len(judged)
        winners = [_winners(one) for one in judged]
        labels = [one.label for one in judged]
        right = [[w[order] == label for w, label in zip(winners, labels, strict=True)] for order in (0, 1)]
        ones = [[int(w[order] == "1") for w in winners] for order in (0, 1)]
        with warnings.catch_warnings(action="ignore"):  # scikit-learn says that a kappa of one class is undefined
            against = [float(cohen_kappa_score(one, [int(label) for label in labels])) for one in ones]
            agreement = float(cohen_kappa_score(*ones))
        return {
            "correct_False": sum(right[0]) / n * 100,
            "correct_True": sum(right[1]) / n * 100,
            "correct_average": (sum(right[0]) + sum(right[1])) / 2 / n * 100,
            "correct_both": sum(a and b for a, b in zip(*right, strict=True)) / n * 100,
            "equal": sum(a == b for a, b in winners) / n * 100,
            "kappa_False": _number(against[0]),
            "kappa_True": _number(against[1]),
            "kappa_average": _number((against[0] + against[1]) / 2),
            "kappa_agreement": _number(agreement),
        }


def _winners(judged: Judged) -> tuple[Decision, Decision]:
    """The winners in both orders by the authors' rules for ratings; comparisons as they are."""
    if judged.decisions:
        return judged.decisions[0], judged.decisions[1]
    decision, _ = decisions_of(judged)
    if decision == "tie":
        return "2", "1"
    return ("1", "2") if decision is None else (decision, decision)


def _number(value: float) -> float | None:
    """None for NaN, which scikit-learn gives where both sides have one class only."""
    return value if value == value else None


class JudgeBench(PairwiseRows):
    """JudgeBench (arXiv 2410.12784): rows of pair_id, source, question, response_A, response_B, label ("A>B", "B>A").

    Rule: over both orders, +1 for a decision equal to the label, -1 for its opposite, 0 for a tie or none; right when
    the sum is above 0. Accuracy by source's field, and over all.
    """

    _LABELS: Mapping[Any, Decision] = {"A>B": "1", "B>A": "2"}
    _FIELDS = (("mmlu-pro", "knowledge"), ("livebench-reasoning", "reasoning"), ("livebench-math", "math"),
               ("livecodebench", "coding"))  # fmt: skip

    def question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        source = text_of(row, "source")
        group = next((name for start, name in self._FIELDS if source.startswith(start)), source)
        answers = [text_of(row, f"response_{letter}", empty=True) for letter in "AB"]
        return question(text_of(row, "pair_id"), text_of(row, "question"), answers,
                        one_of(row, "label", self._LABELS), group)  # fmt: skip

    def judgement(self, row: Mapping[str, Any], number: int) -> Recorded:
        judgments = row.get("judgments")
        if not isinstance(judgments, list) or len(judgments) not in (1, 2):
            raise FieldError("judgments: expected two, in the given order and swapped, or the first alone")
        decisions: list[Decision] = []
        for one in [*judgments, None][:2]:
            decision = one.get("decision") if isinstance(one, Mapping) else None
            decisions.append({**self._LABELS, "A=B": "tie"}.get(decision))
        # the second was made with the answers swapped, so its A is the row's B
        return Recorded(text_of(row, "pair_id"), decisions=(decisions[0], OTHER[decisions[1]]))

    def right(self, judged: Judged) -> float | None:
        decisions = decisions_of(judged)
        if decisions == (None, None):
            return None
        worth = (1 if d == judged.label else -1 if d in ("1", "2") else 0 for d in decisions)
        return float(sum(worth) > 0)

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        groups = {name: by_group(judged).get(name, []) for _, name in self._FIELDS} | by_group(judged)
        figures = {name: percent([self.right(one) or 0.0 for one in ones]) for name, ones in groups.items()}
        single = [float(decisions_of(one)[0] == one.label) for one in judged]
        overall = percent([self.right(one) or 0.0 for one in judged])
        return {**figures, "overall": overall, "single_game": percent(single)}


class ContextualJudgeBench(Pairwise):
    """ContextualJudgeBench (arXiv 2503.15620): rows of question, context, positive_response and negative_response.

    The split (faithfulness_qa, refusal_answerable, …) is the file's name up to the first hyphen, or the field
    ``split``. Answers may also be ``response_a`` and ``response_b`` with a ``label``. Consistent accuracy: right in
    both orders, an unreadable reply being wrong; consistency is how often both orders agree.
    """

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        for path in paths_of(self._path):
            yield from questions(rows_of(path), partial(self._of_split, path.name.partition(".")[0].partition("-")[0]))

    def _of_split(self, split: str, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        if "positive_response" in row:
            answers, label = [text_of(row, f"{sign}_response", empty=True) for sign in ("positive", "negative")], "1"
        else:
            answers = [text_of(row, f"response_{letter}", empty=True) for letter in "ab"]
            label = one_of(row, "label", {"a": "1", "b": "2", "A": "1", "B": "2", 0: "1", 1: "2"})
        context = row.get("context")
        documents = [str(part) for part in context] if isinstance(context, list) else [text_of(row, "context")]
        group = str(row.get("split") or split)
        return question(f"{group}/{number}", text_of(row, "question"), answers, label, group, documents)

    def recorded(self, path: Path) -> Iterator[Recorded]:
        """Rows with ``votes`` of both orders (1: the positive response): the authors' eval_detailed_SPLIT.jsonl."""
        split = path.name.partition(".")[0].removeprefix("eval_detailed_")
        for number, made in enumerate(questions(rows_of(path), partial(self._votes, split))):
            if isinstance(made, BadRow):
                raise DataError(f"{made.file}:{number + 1}: {made.message}")
            yield made

    def _votes(self, split: str, row: Mapping[str, Any], number: int) -> Recorded:
        votes = row.get("votes")
        if not isinstance(votes, list) or len(votes) != 2:
            raise FieldError("votes: expected two, one for each order")
        worth: dict[Any, Decision] = {1: "1", 2: "2"}
        ones = [vote[0] if isinstance(vote, list) and vote else vote for vote in votes]
        first, second = (None if isinstance(one, list | dict) else worth.get(one) for one in ones)
        return Recorded(f"{split}/{number}", decisions=(first, second))

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        def consistent(ones: Sequence[Judged]) -> float | None:
            return percent([float(decisions_of(one) == (one.label, one.label)) for one in ones])

        agree = [float(a == b and a is not None) for a, b in map(decisions_of, judged)]
        groups = {f"consistent_accuracy_{name}": consistent(ones) for name, ones in by_group(judged).items() if name}
        return {"consistent_accuracy": consistent(judged), "consistency": percent(agree), **groups}
