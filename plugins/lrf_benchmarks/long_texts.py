"""Benchmarks of long contexts and long answers: Long-RewardBench and LongJudgeBench."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

from lrf.protocols import BenchmarkItem, Judged
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow, Message
from lrf_benchmarks.best_of import scores_of
from lrf_benchmarks.pairwise import by_group, paths_of
from lrf_benchmarks.rows import FieldError, RewardsOnly, checked, id_of, mean_of, percent, question, questions, text_of
from lrf_benchmarks.settings import BenchmarkSettings, LongJudgeBenchSettings

LENGTHS = ("4k", "8k", "16k", "32k", "64k", "128k")


class LongRewardBench(RewardsOnly):
    """Long-RewardBench (arXiv 2510.06915): a file of JSON Lines for each task (Cite, Code, ICL, LongQA, Summ, …).

    Rows have prompt_template (turns), and chosen and rejected, or for tasktype BestOfN candidates from best to worst.
    A ranking's worth is the share of candidates on their right place, so that of a pair is 0 or 1; tied candidates have
    no place. PairWise by task, length and by ``subtype`` (same or not), BestOfN by number of candidates; averages are
    over rows. In per cent. What has no score is wrong. The task is the file's name.
    """

    compares = False

    def __init__(self, settings: BenchmarkSettings) -> None:
        self._path = settings.path

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        for path in paths_of(self._path):
            yield from questions(rows_of(path), partial(self._question, path.name.partition(".")[0]))

    def _question(self, task: str, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        turns = row.get("prompt_template")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
            raise FieldError("prompt_template: expected a list of turns")
        messages = tuple(Message(text_of(turn, "role"), text_of(turn, "content", empty=True)) for turn in turns)
        best_of = row.get("tasktype") == "BestOfN"
        answers = row.get("candidates") if best_of else [row.get("chosen"), row.get("rejected")]
        if not isinstance(answers, list) or len(answers) < 2:
            raise FieldError("candidates: expected a list of at least two answers, the best first")
        texts = [checked(answer, "candidates" if best_of else "chosen, rejected", empty=True) for answer in answers]
        label = {
            "length": str(row.get("ctx_length_for_length") or row.get("ctx_length")),
            "best_of": len(texts) if best_of else None,
            "subtype": row.get("subtype"),
        }
        last = next((m.content for m in reversed(messages) if m.content.strip()), "")
        made = question(f"{task}/{number}", checked(last, "prompt_template"), texts, label, task)
        return replace(made, sample=replace(made.sample, messages=messages))

    def right(self, judged: Judged) -> float | None:
        scores = scores_of(judged)
        if scores is None:
            return None
        places = [sum(other > score for other in scores) for score in scores]
        alone = [scores.count(score) == 1 for score in scores]
        return sum(one and place == n for n, (place, one) in enumerate(zip(places, alone, strict=True))) / len(scores)

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        pairs = [one for one in judged if one.label["best_of"] is None]
        ranked = [one for one in judged if one.label["best_of"] is not None]
        figures = {task: self._mean(ones) for task, ones in by_group(pairs).items()}
        for name, same in (("Same.", True), ("Diff.", False)) if any(p.label["subtype"] for p in pairs) else ():
            figures[name] = self._mean([one for one in pairs if (one.label["subtype"] == "same") is same])
        figures["PairWise Avg."] = self._mean(pairs)
        for n in sorted({one.label["best_of"] for one in ranked}):
            figures[f"Rank{n}"] = self._mean([one for one in ranked if one.label["best_of"] == n])
        figures["Rank Avg."] = self._mean(ranked)
        figures |= {length: self._mean([p for p in pairs if p.label["length"] == length]) for length in LENGTHS}
        return {**figures, "AVG.": self._mean(judged)}

    def _mean(self, judged: Sequence[Judged]) -> float | None:
        return percent([self.right(one) or 0.0 for one in judged])


class LongJudgeBench(RewardsOnly):
    """LongJudgeBench (2026): rows of dataset, id, instruction, responses, ground_truth, as its authors standardise.

    Scores and rankings: over all pairs of answers to one query, a tie on either side being wrong; preferences: the
    decision equals people's, ties included; binary labels: a reward of 5 or more says yes. Spearman and Kendall are
    over all answers of a data set. Each by data set; accuracy also by quartile of the answers' length. Shares.
    What has no score is wrong in ``accuracy``, and left out of the correlations.
    """

    compares = False

    def __init__(self, settings: LongJudgeBenchSettings) -> None:
        self._path, self._dimension = settings.path, settings.dimension

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        return questions(rows_of(self._path), self._question)

    def _question(self, row: Mapping[str, Any], number: int) -> BenchmarkItem:
        truth, responses = row.get("ground_truth"), row.get("responses")
        if not isinstance(truth, Mapping) or not isinstance(responses, list) or not responses:
            raise FieldError("ground_truth, responses: expected an object and a list")
        worth = self._worth(truth, [str(r.get("model")) if isinstance(r, Mapping) else "" for r in responses])
        kept = [(w, r) for w, r in zip(worth, responses, strict=True) if w is not None]
        answers = [text_of(response, "content", empty=True) for _, response in kept]
        if not answers:
            raise FieldError("ground_truth: says nothing about any of the responses")
        meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
        query = str((meta or {}).get("task_id") or text_of(row, "instruction"))
        kind = str(truth.get("type"))
        label = {
            "worth": [w for w, _ in kept], "preference": "preference" in kind, "binary": "binary" in kind,
            "query": query, "characters": sum(map(len, answers)) // len(answers),
        }  # fmt: skip
        return question(id_of(row, number), text_of(row, "instruction"), answers, label, text_of(row, "dataset"))

    def _worth(self, truth: Mapping[str, Any], models: Sequence[str]) -> list[float | None]:
        """What people say each response is worth; None for one that they don't speak of."""
        if "preferred" in truth and len(models) == 2:
            wins = {"A": [1.0, 0.0], "B": [0.0, 1.0], "TIE": [0.5, 0.5]}.get(str(truth["preferred"]).upper())
            if wins is None:
                raise FieldError(f"ground_truth.preferred: expected A, B or tie; got {str(truth['preferred'])[:40]!r}")
            return list(wins)
        if "gold_correct" in truth:
            return [float(bool(truth["gold_correct"]))] * len(models)
        if isinstance(truth.get("scores"), Mapping):
            return [_number(truth["scores"].get(model)) for model in models]
        rankings = [v for k, v in truth.items() if isinstance(v, Mapping) and (self._dimension or "") in k]
        if not rankings:
            raise FieldError("ground_truth: expected preferred, gold_correct, scores or a ranking")
        places = [[_number(ranking.get(model)) for ranking in rankings] for model in models]
        means = [None if model == "GT" else mean_of(of) for model, of in zip(models, places, strict=True)]
        return [None if mean is None else -mean for mean in means]

    def right(self, judged: Judged) -> float | None:
        if scores_of(judged) is None:
            return None
        pairs = list(self._outcomes([judged]))
        return sum(pairs) / len(pairs) if pairs else None

    def _outcomes(self, judged: Sequence[Judged]) -> Iterator[bool]:
        """Whether each decision that can be compared with people's is right."""
        queries: dict[str, list[tuple[float, float | None]]] = {}
        for one in judged:
            scores = one.scores or (None,) * len(one.label["worth"])
            if one.label["binary"]:
                yield from (
                    s is not None and (s >= 5) == bool(w) for w, s in zip(one.label["worth"], scores, strict=True)
                )
            elif one.label["preference"]:
                (a, b), (x, y) = one.label["worth"], scores
                yield x is not None and y is not None and _sign(a - b) == _sign(x - y)
            else:
                queries.setdefault(one.label["query"], []).extend(zip(one.label["worth"], scores, strict=True))
        for answers in queries.values():
            for (a, x), (b, y) in combinations(answers, 2):
                yield x is not None and y is not None and a != b and x != y and _sign(a - b) == _sign(x - y)

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        figures: dict[str, JSON] = {}
        for name, ones in by_group(judged).items():
            outcomes = list(self._outcomes(ones))
            figures[f"{name}: accuracy"] = sum(outcomes) / len(outcomes) if outcomes else None
            if not any(one.label["binary"] or one.label["preference"] for one in ones):
                figures |= {f"{name}: {key}": value for key, value in _correlations(ones).items()}
            ordered = sorted(ones, key=lambda one: (one.label["characters"], one.id))
            for quarter in range(4):
                part = list(self._outcomes(ordered[len(ones) * quarter // 4 : len(ones) * (quarter + 1) // 4]))
                figures[f"{name}: accuracy Q{quarter + 1}"] = sum(part) / len(part) if part else None
        return figures


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return float(value) if known else None


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _correlations(judged: Sequence[Judged]) -> dict[str, float | None]:
    from scipy import stats

    both = [
        (w, s)
        for one in judged
        for w, s in zip(one.label["worth"], one.scores, strict=bool(one.scores))
        if s is not None
    ]
    people, scores = [w for w, _ in both], [s for _, s in both]
    if len(set(people)) < 2 or len(set(scores)) < 2:
        return {"spearman": None, "kendall": None}
    rho, tau = stats.spearmanr(people, scores), stats.kendalltau(people, scores)
    return {"spearman": float(rho.statistic), "kendall": float(tau.statistic)}
