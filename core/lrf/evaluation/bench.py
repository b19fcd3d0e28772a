"""The result of a benchmark: published figures, accuracy with its interval, and the comparison with baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lrf.errors import ConfigError
from lrf.evaluation.baselines import baselines_of, on_the_scale
from lrf.evaluation.judgements import Say, has_judgement
from lrf.evaluation.measures import Share
from lrf.evaluation.questions import Counts
from lrf.evaluation.statistics import Paired, paired, wilson
from lrf.evaluation.tables import Table, shown, shown_share
from lrf.plugin.catalog import Catalog, load_settings, load_target
from lrf.protocols import Benchmark, BenchmarkItem, Judged
from lrf.types import JSON


def benchmark_of(catalog: Catalog, name: str, settings: Mapping[str, Any]) -> Benchmark:
    """The benchmark with these settings.

    Raises :class:`lrf.errors.PluginError` for an unknown one or a missing extra, :class:`lrf.errors.ConfigError` for
    settings that it refuses.
    """
    spec = catalog.find("benchmark", name)
    model = load_settings(spec)
    try:
        checked = model.model_validate(dict(settings), context={"folder": Path.cwd()})
    except ValidationError as error:
        wrong = "\n".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        allowed = ", ".join(model.model_fields)
        raise ConfigError(f"benchmark {name}: {wrong}\nits settings are {allowed}") from None
    benchmark: Benchmark = load_target(spec)(checked)
    return benchmark


@dataclass(slots=True)
class BenchResult:
    """The result of a benchmark.

    Parameters
    ----------
    counts: what was in the files.
    figures: the published figures, by judge or baseline.
    credits: what each question is worth, 0 to 1, by judge or baseline; None without a judgement.
    missing: questions without a whole judgement, by judge.
    judges: the names that are judges; the first is the main one.
    groups: the main judge's credits by group.
    price: what the judge took (calls, tokens, money by currency); None for recorded judgements.
    """

    benchmark: str
    counts: Counts
    seed: int
    figures: dict[str, Mapping[str, JSON]] = field(default_factory=dict)
    credits: dict[str, list[float | None]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    judges: list[str] = field(default_factory=list)
    groups: dict[str, list[float]] = field(default_factory=dict)
    price: Mapping[str, JSON] | None = None

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.figures if name not in self.judges]

    def accuracy(self, name: str) -> Share:
        """The mean credit over questions with a judgement, with Wilson's interval."""
        credits = [credit for credit in self.credits[name] if credit is not None]
        return wilson(sum(credits), len(credits))

    def against(self, name: str, other: str) -> Paired:
        return paired(self.credits[name], self.credits[other], self.seed)

    def not_beaten(self, name: str) -> list[str]:
        """The baselines that this judge isn't better than beyond chance. Empty where nothing can be counted right."""
        if self.accuracy(name).value is None:
            return []
        return [other for other in self.baselines if not self.against(name, other).is_better]

    def as_json(self) -> Mapping[str, JSON]:
        """The main judge's published figures at the top, and everything else beside them."""
        main = self.judges[0]
        return {
            **self.figures[main],
            "benchmark": self.benchmark,
            "counts": self.counts.as_json(),
            "unjudged": self.missing,
            "accuracy": {name: self.accuracy(name).as_json() for name in self.figures},
            "by_group": {g: wilson(sum(c), len(c)).as_json() for g, c in self.groups.items() if g},
            "figures": {name: dict(figures) for name, figures in self.figures.items()},
            "against": {
                f"{a} - {b}": self.against(a, b).as_json()
                for i, a in enumerate(self.judges)
                for b in (*self.judges[:i], *self.baselines)
            },
            "not_better_than": {name: self.not_beaten(name) for name in self.judges},
            "price": self.price,
        }

    def tables(self) -> list[Table]:
        """The tables for people."""
        names = list(self.figures)
        keys = list(dict.fromkeys(key for figures in self.figures.values() for key in figures))
        published = Table(
            f"{self.benchmark}: published figures",
            ("figure", *names),
            [(key, *(shown(self.figures[name].get(key)) for name in names)) for key in keys],
        )
        rows = []
        for name in names:
            missing = f"{self.missing[name]:,}"
            other = self.against(self.judges[0], name) if name != self.judges[0] else None
            difference = "" if other is None else shown_share(other.difference)
            needed = "" if other is None or other.needed is None else f"{other.needed:,}"
            p = "" if other is None else f"{other.p:.3g}"
            n = sum(credit is not None for credit in self.credits[name])
            rows.append((name, shown_share(self.accuracy(name)), f"{n:,}", missing, difference, p, needed))
        heads = (
            "judge",
            "accuracy [95%]",
            "questions",
            "unjudged",
            f"{self.judges[0]} minus it",
            "sign test p",
            "needed",
        )
        tables = [published, Table("accuracy of single questions", heads, rows)]
        groups = [(g or "-", shown_share(wilson(sum(c), len(c))), f"{len(c):,}") for g, c in self.groups.items()]
        if len(groups) > 1:
            tables.append(Table("by group", ("group", "accuracy [95%]", "questions"), groups[:60]))
        return tables

    def remarks(self) -> list[str]:
        """Sentences on what a reader must not overlook."""
        counts, missing = self.counts, self.missing[self.judges[0]]
        of = f" of {counts.questions + counts.not_chosen:,}" if counts.not_chosen else ""
        lines = [f"{counts.questions:,} questions{of}"]
        if counts.bad_rows:
            lines.append(f"{counts.bad_rows:,} bad rows left out: {'; '.join(counts.problems)}")
        if counts.same_id:
            lines.append(f"questions whose id came before, numbered ID#2 and so on: {counts.same_id:,}")
        if counts.repeated:
            lines.append(f"rows left out, since the same came before: {counts.repeated:,}")
        if counts.same_text:
            lines.append(f"questions that are the same as an earlier one: {counts.same_text:,}")
        if missing:
            lines.append(
                f"without a whole judgement: {missing:,} questions; published figures count them by its own "
                "rule (most: as wrong), the accuracy of single questions leaves them out"
            )
        if unknown := [name for name, figure in self.figures[self.judges[0]].items() if figure is None]:
            lines.append(
                "figures that these questions don't give, as a class, a subset or every judgement is missing: "
                + ", ".join(unknown[:20])
            )
        if self.credits[self.judges[0]] and self.accuracy(self.judges[0]).value is None:
            lines.append("no question can be counted as right or wrong, so there is no accuracy")
        for name in self.judges:
            if not name.startswith(("only ", "without ")) and (others := self.not_beaten(name)):
                lines.append(f"{name} is not better than these baselines beyond chance: {', '.join(others)}")
        return lines


def measured(
    name: str,
    benchmark: Benchmark,
    questions: Iterable[BenchmarkItem],
    says: Mapping[str, Say],
    counts: Counts,
    seed: int,
) -> BenchResult:
    """The result of the judges, the first of which is the main one, and of the baselines."""
    judged: dict[str, list[Judged]] = {judge: [] for judge in says}
    for question in questions:
        for judge, say in says.items():
            judged[judge].append(say(question))
        for baseline, said in baselines_of(question, seed, benchmark.compares).items():
            judged.setdefault(baseline, []).append(said)
    result = BenchResult(name, counts, seed, judges=list(says))
    for judge, ones in judged.items():
        scaled = ones if judge in says else on_the_scale(judge, ones)
        result.figures[judge] = benchmark.measure(scaled)
        result.credits[judge] = [benchmark.right(one) for one in scaled]
        result.missing[judge] = sum(not has_judgement(one) for one in scaled)
    main = result.judges[0]
    result.groups = _by_group(judged[main], result.credits[main])
    return result


def _by_group(judged: Sequence[Judged], credits: Sequence[float | None]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for one, credit in zip(judged, credits, strict=True):
        groups.setdefault(one.group, []).extend([] if credit is None else [credit])
    return groups
