"""Two policies side by side: their answers to the same questions, and wins, ties and losses of the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.evaluation.baselines import share_of
from lrf.evaluation.judgements import Scores, decision_of
from lrf.evaluation.measures import Share
from lrf.evaluation.references import rouge_l, token_f1
from lrf.evaluation.statistics import mean_with_interval, wilson
from lrf.evaluation.tables import Table, shown_share
from lrf.rows.formats import rows_of
from lrf.stages.run_dir import RunDir
from lrf.text.languages import language_of
from lrf.types import JSON, BadRow, Candidate, Sample

KEYS = ("sample_id", "id", "question_id", "idx", "instruction")
"""The fields that may say which question an answer is to; an instruction is the question itself."""
TEXTS = ("output", "text", "answer", "pred", "response")
"""The fields that may hold the answer."""


def read_answers(path: Path) -> dict[str, str]:
    """One policy's answers by question's id, or by the question itself.

    Reads a run's folder (the first candidate of each sample), and files of rows: lrf's own, AlpacaEval's outputs
    (instruction, output), MT-Bench's model answers (question_id, choices; the last turn) and LongBench's predictions.
    Raises :class:`lrf.errors.DataError` for rows that are none of these, and for two answers to one question.
    """
    if path.is_dir():
        path = RunDir(path).candidates
        if not path.is_file():
            raise DataError(f"{path} is not there; expected the folder of a run that sampled candidates")
    answers: dict[str, str] = {}
    for row in rows_of(path):
        where = f"{row.file}:{row.line}"
        if isinstance(row, BadRow) or not isinstance(row.value, Mapping):
            raise DataError(f"{where}: {row.message if isinstance(row, BadRow) else 'expected an object'}")
        if row.value.get("candidates") == []:
            continue  # a sample that the run left out
        key = next((str(row.value[name]) for name in KEYS if row.value.get(name) not in (None, "")), None)
        text = _text(row.value)
        if key is None or text is None:
            raise DataError(f"{where}: expected one of {', '.join(KEYS)}, and one of {', '.join(TEXTS)}, or choices")
        if key in answers:
            raise DataError(f"{where}: two answers to {key[:60]!r}")
        answers[key] = text
    if not answers:
        raise DataError(f"{path}: no answer in it")
    return answers


def _text(row: Mapping[str, Any]) -> str | None:
    for name in TEXTS:
        if isinstance(row.get(name), str):
            return str(row[name])
    match row:
        case {"choices": [{"turns": [*_, str(last)]}, *_]} | {"candidates": [{"text": str(last)}, *_]}:
            return last
    return None


@dataclass(frozen=True, slots=True)
class Duel:
    """A question with both policies' answers."""

    sample: Sample
    a: str
    b: str

    def row(self, *, compare: bool) -> Mapping[str, JSON]:
        """The row of data: the answers in an order that a hash decides; to compare, both orders as candidates."""
        from lrf.evaluation.questions import question_row
        from lrf.protocols import Question

        answers = (Candidate("a", self.a), Candidate("b", self.b))
        sample = replace(self.sample, candidates=answers)
        return question_row(Question(sample, None), compare=compare)

    def without_documents(self) -> Duel:
        """The same without the documents, which take the most room."""
        return replace(self, sample=replace(self.sample, documents=(), candidates=(), messages=None))

    @property
    def first(self) -> str:
        """Which policy people are shown first: "a" or "b"."""
        return "a" if share_of("people", self.sample.id) < 0.5 else "b"


def duels(
    samples: Iterator[Sample], a: Mapping[str, str], b: Mapping[str, str], counts: Counter[str]
) -> Iterator[Duel]:
    """The questions that both policies answered; the others are counted as "only a", "only b" and "neither"."""
    for sample in samples:
        one, two = (answers.get(sample.id, answers.get(sample.query)) for answers in (a, b))
        if one is not None and two is not None:
            counts["questions"] += 1
            yield Duel(sample, one, two)
        else:
            counts["only a" if one is not None else "only b" if two is not None else "neither"] += 1


@dataclass(slots=True)
class Outcome:
    """Wins, ties and losses of the first policy by one measure.

    Parameters
    ----------
    by_question: 1 for a win, 0.5 for a tie, 0 for a loss, of each question that both answers have a score for.
    missing: questions without.
    differences: the first's score minus the second's, where there are scores.
    """

    by_question: dict[str, float] = field(default_factory=dict)
    missing: int = 0
    differences: list[float] = field(default_factory=list)

    def add(self, question: str, result: float | None) -> None:
        if result is None:
            self.missing += 1
        else:
            self.by_question[question] = result

    @property
    def results(self) -> list[float]:
        return list(self.by_question.values())

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.results.count(1.0), self.results.count(0.5), self.results.count(0.0)

    def win_rate(self) -> Share:
        """The share of wins, a tie counting half, with Wilson's interval."""
        return wilson(sum(self.results), len(self.results))

    def as_json(self) -> Mapping[str, JSON]:
        win, tie, loss = self.counts
        return {
            "win": win, "tie": tie, "loss": loss, "win_rate": self.win_rate().as_json(), "missing": self.missing,
            "difference": mean_with_interval(self.differences, 0).as_json() if self.differences else None,
        }  # fmt: skip

    def cells(self) -> tuple[str, ...]:
        n = max(1, len(self.results))
        shares = (f"{count / n:.2f}" for count in self.counts)
        difference = shown_share(mean_with_interval(self.differences, 0)) if self.differences else "-"
        return (*shares, shown_share(self.win_rate()), difference, f"{len(self.results):,}", f"{self.missing:,}")


def by_rewards(ids: Sequence[str], scores: Scores, margin: float) -> dict[str, Outcome]:
    """The outcome by reward and by each dimension; rewards that are at most ``margin`` apart are a tie."""
    outcomes: dict[str, Outcome] = {}
    for judge, of_judge in scores.items():
        if judge.startswith("without "):
            continue
        outcome = outcomes[judge.removeprefix("only ")] = Outcome()
        for name in ids:
            a, b = (of_judge.get(name, {}).get(policy) for policy in ("a", "b"))
            if a is None or b is None:
                outcome.add(name, None)
                continue
            outcome.differences.append(a - b)
            outcome.add(name, 0.5 if abs(a - b) <= margin else float(a > b))
    return outcomes


def by_comparison(ids: Sequence[str], scores: Scores) -> Outcome:
    """The outcome of comparisons in both orders: who wins more orders wins; one each is a tie."""
    outcome = Outcome()
    for name in ids:
        of = scores["reward"].get(name, {})
        decisions = decision_of(of.get("given"), "1", "2"), decision_of(of.get("swapped"), "2", "1")
        if None in decisions:
            outcome.add(name, None)
            continue
        wins = decisions.count("1") - decisions.count("2")
        outcome.add(name, 1.0 if wins > 0 else 0.0 if wins < 0 else 0.5)
    return outcome


def by_reference(matches: Sequence[Duel]) -> dict[str, dict[str, Share]]:
    """Token F1 and ROUGE-L of each policy's answers with the references that the data has, in per cent."""
    found: dict[str, dict[str, Share]] = {}
    with_reference = [m for m in matches if m.sample.reference]
    for name, figure in (("F1", token_f1), ("ROUGE-L", rouge_l)):
        for policy in ("a", "b"):
            values = []
            for match in with_reference:
                reference = match.sample.reference or ""
                answer = match.a if policy == "a" else match.b
                values.append(100 * figure(answer, reference, language_of(reference)))
            if values:
                found.setdefault(name, {})[policy] = mean_with_interval(values, 0)
    return found


def outcome_table(outcomes: Mapping[str, Outcome]) -> Table:
    head = ("by", "win", "tie", "loss", "win rate [95%]", "a minus b [95%]", "questions", "missing")
    return Table("policy a against policy b", head, [(name, *outcome.cells()) for name, outcome in outcomes.items()])


def reference_table(figures: Mapping[str, Mapping[str, Share]]) -> Table:
    rows = [(name, shown_share(of["a"]), shown_share(of["b"])) for name, of in figures.items()]
    return Table("against the references, in per cent", ("figure", "a [95%]", "b [95%]"), rows)
