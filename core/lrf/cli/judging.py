"""What ``lrf bench``, ``lrf audit`` and ``lrf evaluate`` share: the run that asks judges, its price, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrf.errors import ConfigError

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.evaluation.judgements import Scores
    from lrf.evaluation.tables import Table
    from lrf.planning.plan import Plan
    from lrf.plugin.catalog import Catalog
    from lrf.stages.run_dir import RunDir
    from lrf.stages.summary import RunSummary
    from lrf.types import JSON


def need_extra(extra: str, *modules: str) -> None:
    """Raise :class:`lrf.errors.ConfigError` that names the extra, if one of its modules isn't installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} isn't installed; pip install 'lrf[{extra}]'")


@dataclass(frozen=True, slots=True)
class JudgingRun:
    """A run that asks the judges of a pipeline about rows that are made for it.

    Parameters
    ----------
    base: the pipeline.
    runs: the folder of run directories; ``name`` is that of the run.
    dimensions: the only dimensions to keep; all of them if empty.
    comparison: the judge that compares two answers instead ("" for the pipeline's main or only one).
    rewrites: the judge that writes statements in other words instead of rating them.
    budget: what the run may use at most.
    cached: whether replies of other runs may be used.
    outlook: whether the calls left to pay are estimated first, which for a local model takes a process of its own.
    """

    base: Pipeline
    catalog: Catalog
    runs: Path
    name: str
    dimensions: Sequence[str] = ()
    comparison: str | None = None
    rewrites: str | None = None
    budget: str | None = None
    cached: bool = True
    outlook: bool = True

    @property
    def files(self) -> RunDir:
        from lrf.stages.run_dir import RunDir

        return RunDir(self.runs.absolute() / self.name)

    def write(self, rows: Iterator[Mapping[str, JSON]]) -> None:
        """Write the rows that are asked about."""
        from lrf.evaluation.questions import write_rows

        self.files.path.mkdir(parents=True, exist_ok=True)
        write_rows(rows, self.files.path / "questions.jsonl")

    def pipeline(self) -> Pipeline:
        """Raises :class:`lrf.errors.ConfigError` where the pipeline can't ask this."""
        from lrf.evaluation.pipelines import judging_pipeline

        return judging_pipeline(
            self.base, self.catalog, name=self.name, rows=self.files.path / "questions.jsonl",
            dimensions=self.dimensions, comparison=self.comparison, rewrites=self.rewrites, budget=self.budget,
            cached=self.cached,
        )  # fmt: skip

    def run(self) -> RunSummary:
        """Score the rows, with the display of ``lrf run``, and say why what has no score has none."""
        from lrf.cli.output import clean
        from lrf.stages.score.gate import reasons_explained

        summary = run_shown(self.pipeline(), self.catalog, self.runs, self.files, "score", look=self.outlook)
        score = summary.stages.get("score", {})
        if score.get("unscored") and not summary.message:
            click.echo(f"{score['unscored']:,} of {score['candidates']:,} answers have no score:", err=True)
            for line in reasons_explained(self.files, score["reasons"]):
                click.echo(clean(line), err=True)
        return summary

    def scores(self) -> Scores:
        """The rewards that the run has made, and the ratings of single dimensions."""
        from lrf.evaluation.judgements import read_rewards

        return read_rewards(self.files.rewards)

    def plan(self) -> Plan:
        """What the judging will ask and cost."""
        import asyncio

        from lrf.planning.plan import plan_pipeline

        return asyncio.run(plan_pipeline(self.pipeline(), run=self.files))

    def show_plan(self, *, as_json: bool) -> None:
        """Show what the judging will ask and cost, as ``lrf plan`` does."""
        show_plans({"": self.plan()}, self.pipeline(), as_json=as_json)


def run_shown(
    pipeline: Pipeline, catalog: Catalog, runs: Path, run: RunDir, last: str, *, look: bool = True
) -> RunSummary:
    """Run a pipeline up to the stage ``last``, with the display of ``lrf run``; ``look``: with its outlook, too."""
    from lrf.cli.outlook import outlook, show_changes
    from lrf.cli.progress import progress
    from lrf.engine import event_loop as interpreter
    from lrf.stages.runner import run_pipeline

    with progress() as display:
        show_changes(pipeline, run, display)
        before = outlook(pipeline, run.pipeline, run, display) if look else None
        work = run_pipeline(pipeline, catalog, runs, last=last, report=display, signals=True, before_paying=before)
        summary = interpreter.run(work)
    if summary.message:
        click.echo(f"{summary.status}: {summary.message}", err=True)
    return summary


def show_plans(plans: Mapping[str, Plan], pipeline: Pipeline, *, as_json: bool) -> None:
    """Show the plans of several runs as one (see :func:`lrf.planning.plan.together`), beside the pipeline's budget."""
    from lrf.cli.output import show_json
    from lrf.cli.plan import show_scoring
    from lrf.planning.plan import together

    whole = together(plans)
    if as_json:
        show_json(whole.as_json())
    else:
        show_scoring(whole, pipeline)


def price_of(summary: RunSummary, stage: str = "score") -> dict[str, JSON]:
    """What a stage took over all its sittings: calls, tokens and money by currency."""
    result = summary.stages.get(stage, {})
    whole = result.get("all_sittings", {})
    return {
        "calls": whole.get("calls"),
        "tokens": whole.get("tokens"),
        "money": (result.get("money") or {}).get("spent") or None,
    }


def added(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> dict[str, JSON]:
    """Two prices together."""
    total = dict(one)
    for unit, amount in other.items():
        if isinstance(amount, dict):
            known = dict(total.get(unit) or {})
            total[unit] = {**known, **{key: known.get(key, 0) + value for key, value in amount.items()}}
        elif amount is not None or unit not in total:
            total[unit] = amount if amount is None else (total.get(unit) or 0) + amount
    return total


def price_line(price: Mapping[str, JSON]) -> str:
    """A price as a sentence."""
    calls, tokens = price.get("calls") or 0, price.get("tokens") or 0
    money = "".join(f", {amount:,.4g} {unit}" for unit, amount in (price.get("money") or {}).items())
    return f"price: {calls:,} calls, {tokens:,} tokens{money}"


def left_of(budget: str | None, spent: Mapping[str, JSON]) -> str | None:
    """What is left of a budget, in the form that the command line gives it; "" for nothing."""
    from lrf.evaluation.pipelines import budget_block

    if budget is None:
        return None
    parts = []
    for unit, most in budget_block(budget).items():
        used = sum((spent["money"] or {}).values()) if unit == "money" else spent[unit] or 0
        if most - used <= 0:
            return ""
        parts.append(f"{unit}={most - used}")
    return ",".join(parts)


def drawn(draw: Callable[[], Sequence[Path]]) -> list[str]:
    """Draw figures, and say where they are, or which extra is missing."""
    if find_spec("matplotlib") is None:
        return ["no figures: pip install 'lrf[figures]'"]
    paths = draw()
    return [f"figures: {', '.join(map(str, paths))}"] if paths else []


def show_tables(tables: Sequence[Table], remarks: Sequence[str]) -> None:
    """Print tables and then remarks."""
    from lrf.cli.output import clean, table

    for one in tables:
        click.echo(f"\n{clean(one.title)}:")
        table(one.head, one.rows)
    click.echo("")
    for remark in remarks:
        click.echo(clean(remark))


def write_markdown(path: Path, tables: Sequence[Table], remarks: Sequence[str]) -> None:
    """Write the same as Markdown."""
    from lrf.store.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write("\n".join(one.markdown() for one in tables))
        file.write("\n" + "\n\n".join(remarks) + "\n")
