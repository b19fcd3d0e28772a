"""Two policies side by side: wins, ties and losses of the first, means of both, and their answers' facts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrf.evaluation.duels import Duel
from lrf.evaluation.judgements import Scores, decision_of
from lrf.evaluation.measures import Share
from lrf.evaluation.references import FIRST_LINE, cuts_words, rouge_l, token_f1
from lrf.evaluation.statistics import mean_with_interval, wilson
from lrf.evaluation.tables import Table, shown_share
from lrf.text.languages import language_of
from lrf.types import JSON, Judgement, Unscored


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


def by_rewards(ids: Sequence[str], scores: Scores, margin: float, *, without: bool = False) -> dict[str, Outcome]:
    """The outcome by reward and by each dimension, or ``without`` each; rewards at most ``margin`` apart are a tie."""
    outcomes: dict[str, Outcome] = {}
    for judge, of_judge in scores.items():
        if judge.startswith("without ") is not without:
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


Means = Mapping[str, Mapping[str, Share]]
"""By figure and policy ("a", "b")."""


def means_of(ids: Sequence[str], scores: Scores) -> Means:
    """Each policy's mean reward, and its mean rating of each dimension, 0 to 10, over what has one."""
    found: dict[str, dict[str, Share]] = {}
    for judge, of_judge in scores.items():
        if judge.startswith("without "):
            continue
        for policy in ("a", "b"):
            values = [score for name in ids if (score := of_judge.get(name, {}).get(policy)) is not None]
            found.setdefault(judge.removeprefix("only "), {})[policy] = mean_with_interval(values, 0)
    return found


def by_reference(duels: Iterable[Duel]) -> Means:
    """Token F1 and ROUGE-L of each policy's answers, in per cent: of each answer that with its nearest reference.

    Their names say so where Chinese was cut into characters, since the figures are then no published ones.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for duel in duels:
        if not duel.references:
            continue
        language = duel.language or language_of(" ".join(duel.references))
        by = " (Chinese by characters)" if language == "zh" and not cuts_words() else ""
        for name, figure in (("F1", token_f1), ("ROUGE-L", rouge_l)):
            for policy, answer in (("a", duel.a), ("b", duel.b)):
                counted = answer.lstrip("\n").partition("\n")[0] if duel.dataset in FIRST_LINE else answer
                best = max(figure(counted, reference, language) for reference in duel.references)
                values.setdefault(name + by, {}).setdefault(policy, []).append(100 * best)
    return {name: {p: mean_with_interval(of[p], 0) for p in of} for name, of in values.items()}


GAMMA = 10
"""Facts of an answer below which FActScore lowers its score (arXiv 2305.14251, section 3)."""


def facts_of(judged: Iterable[tuple[str, str, Mapping[str, Judgement | Unscored]]]) -> Means:
    """What a dimension that judges statements says about each policy's facts, under the dimension's name.

    ``facts an answer``; ``supported``, the mean share of supported facts of an answer that has any, in per cent; and
    ``FActScore``, the same lowered for answers with fewer than :data:`GAMMA` facts, and 0 for those without.

    Parameters
    ----------
    judged: sample, policy and judgements, as ``judgements.jsonl`` has them.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for _, policy, judgements in judged:
        for name, judgement in judgements.items():
            if isinstance(judgement, Unscored) or judgement.reply_mode != "statements":
                continue
            n = len(judgement.statements)
            share = 100 * sum(s.support for s in judgement.statements) / n if n else 0.0
            penalty = 1.0 if n >= GAMMA else math.exp(1 - GAMMA / n) if n else 0.0
            figures = {"facts an answer": float(n), "FActScore": share * penalty, **({"supported": share} if n else {})}
            for figure, value in figures.items():
                values.setdefault(f"{name}: {figure}", {}).setdefault(policy, []).append(value)
    return {name: {p: mean_with_interval(of.get(p, []), 0) for p in ("a", "b")} for name, of in values.items()}


def outcome_table(outcomes: Mapping[str, Outcome]) -> Table:
    head = ("by", "win", "tie", "loss", "win rate [95%]", "a minus b [95%]", "questions", "missing")
    return Table("policy a against policy b", head, [(name, *outcome.cells()) for name, outcome in outcomes.items()])


def means_table(title: str, figures: Means) -> Table:
    rows = [(name, shown_share(of["a"]), shown_share(of["b"])) for name, of in figures.items()]
    return Table(title, ("figure", "a [95%]", "b [95%]"), rows)
