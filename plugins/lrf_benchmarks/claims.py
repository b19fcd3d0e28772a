"""Benchmarks of claims that a document supports or doesn't: LLM-AggreFact and FActScore's labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrf.protocols import BenchmarkItem, Judged
from lrf.rows.data import quoted
from lrf.rows.formats import rows_of
from lrf.rows.lines import Row
from lrf.types import JSON, BadRow
from lrf_benchmarks.pairwise import by_group
from lrf_benchmarks.rows import FieldError, RewardsOnly, mean_of, one_of, question, questions, text_of
from lrf_benchmarks.settings import ClaimSettings, FactScoreSettings


class Claims(RewardsOnly):
    """What these benchmarks share: one answer a question, and a label that is 1 for what the document supports."""

    compares = False

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def supported(self, judged: Judged) -> bool | None:
        """Whether the judge finds support; None without a score."""
        score = judged.scores[0] if judged.scores else None
        return None if score is None else score >= self._threshold

    def right(self, judged: Judged) -> float | None:
        supported = self.supported(judged)
        return None if supported is None else float(supported == bool(judged.label))

    def balanced_accuracy(self, judged: Sequence[Judged]) -> float | None:
        """Mean of the shares that are right of each label, in per cent; None where one label is missing.

        What has no score is wrong.
        """
        by_label: dict[bool, list[float]] = {True: [], False: []}
        for one in judged:
            by_label[bool(one.label)].append(self.right(one) or 0.0)
        recall = mean_of(mean_of(shares) for shares in by_label.values())
        return None if recall is None else recall * 100


class AggreFact(Claims):
    """LLM-AggreFact (arXiv 2404.10774): rows of dataset, doc, claim, label (0 or 1).

    Balanced accuracy by dataset; overall their mean.
    """

    def __init__(self, settings: ClaimSettings) -> None:
        super().__init__(settings.threshold)
        self._path = settings.path

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        return questions(rows_of(self._path), self._question)

    def _question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        label = one_of(row, "label", {0: 0, 1: 1, "0": 0, "1": 1})
        return question(str(number), "Is this claim true of the document?", [text_of(row, "claim")], label,
                        text_of(row, "dataset"), [text_of(row, "doc")])  # fmt: skip

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        figures = {name: self.balanced_accuracy(ones) for name, ones in by_group(judged).items()}
        return {**figures, "overall": mean_of(figures.values())}


class FactScore(Claims):
    """FActScore's labels (arXiv 2305.14251): rows of topic, output, annotations, with facts labelled S, NS or IR.

    Each relevant fact is a question about the topic's article. Score: the share of supported facts an answer, times
    exp(1 - gamma / facts) where there are fewer than ``gamma``; the mean over the answers with facts. ``score`` is the
    judge's, ``human_score`` people's, ``error`` the difference; ``f1_not_supported`` is of single facts. In per cent.
    """

    def __init__(self, settings: FactScoreSettings) -> None:
        super().__init__(settings.threshold)
        self._path, self._knowledge, self._gamma = settings.path, settings.knowledge, settings.gamma

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        articles = {
            str(row.value.get("title")): str(row.value.get("text") or "")
            for row in rows_of(self._knowledge)
            if isinstance(row, Row) and isinstance(row.value, Mapping)
        }
        for made in questions(rows_of(self._path), lambda row, number: _facts(row, number, articles)):
            yield from [made] if isinstance(made, BadRow) else made

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        answers = by_group(judged)
        people, judge = [], []
        for facts in answers.values():
            n = len(facts)
            penalty = math.exp(1 - self._gamma / n) if n < self._gamma else 1.0
            people.append(penalty * sum(f.label for f in facts) / n * 100)
            judge.append(penalty * sum(bool(self.supported(f)) for f in facts) / n * 100)
        score, human = mean_of(judge), mean_of(people)
        denied = [f for f in judged if self.supported(f) is False]
        wanted = sum(not f.label for f in judged)
        hits = sum(not f.label for f in denied)
        return {
            "score": score,
            "human_score": human,
            "error": None if score is None or human is None else abs(score - human),
            "f1_not_supported": 2 * hits / (len(denied) + wanted) * 100 if wanted else None,
            "facts_an_answer": len(judged) / len(answers) if answers else None,
            "answers": len(answers),
            "balanced_accuracy": self.balanced_accuracy(judged),
        }


def _facts(row: Mapping[str, Any], number: int, articles: Mapping[str, str]) -> list[BenchmarkItem]:
    """A question for each relevant fact of an answer."""
    topic = text_of(row, "topic")
    if row.get("annotations") is None:
        raise FieldError("annotations: none, as of an answer that did not respond; it counts in no figure")
    if not (article := articles.get(topic)):
        raise FieldError(f"topic: the knowledge has no article {topic[:60]!r}")
    found: list[BenchmarkItem] = []
    for sentence in _objects(row, "annotations"):
        for fact in _objects(sentence, "human-atomic-facts") if sentence.get("human-atomic-facts") is not None else ():
            label = one_of(fact, "label", {"S": 1, "NS": 0, "IR": None})
            if label is not None:
                asked = f"What is known about {topic}?"
                name = f"{number}:{len(found)}"
                found.append(question(name, asked, [text_of(fact, "text")], label, str(number), [article]))
    return found


def _objects(row: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in a list. Raises :class:`FieldError`."""
    value = row[name]
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise FieldError(f"{name}: expected a list of objects; got {quoted(str(value)[:60])}")
    return value
