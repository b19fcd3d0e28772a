"""``lrf evaluate``: did the policy get better? Two policies' answers, judged blind, and by people."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.cli import common_options
from lrf.errors import BudgetError, ConfigError, DataError

if TYPE_CHECKING:
    from lrf.cli.judging import JudgingRun
    from lrf.config import Pipeline
    from lrf.evaluation.duels import Duels
    from lrf.evaluation.people import Agreement
    from lrf.evaluation.policies import Means, Outcome
    from lrf.evaluation.tables import Table
    from lrf.plugin.catalog import Catalog
    from lrf.types import JSON


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-a", "a", required=True, type=click.Path(exists=True, path_type=Path),
              help="The first policy: a file of answers, the folder of a run that sampled them, or a pipeline file "
              "(.yaml) whose `sample:` block writes them now.")  # fmt: skip
@click.option("-b", "b", required=True, type=click.Path(exists=True, path_type=Path),
              help="The second policy, such as the one before training.")  # fmt: skip
@click.option("--compare", is_flag=True, help="Show the judge both answers at once, in both orders.")
@click.option("--judge", default="", help="With --compare: the judge of the pipeline to ask.")
@common_options.dimensions
@click.option("--margin", default=0.0, show_default=True, type=click.FloatRange(0, 10),
              help="Rewards that are at most this far apart are a tie.")  # fmt: skip
@click.option("--no-judge", is_flag=True, help="Ask no judge: only references and people's sheets.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path),
              help="Write a blind sheet for people: .csv, or .json for Label Studio.")  # fmt: skip
@click.option("--people", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A sheet that somebody filled in; repeat for each person.")  # fmt: skip
@click.option("--export", type=click.Path(file_okay=False, path_type=Path),
              help="Write the answers for AlpacaEval and MT-Bench into this folder.")  # fmt: skip
@click.option("--verdicts", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="What these tools said: AlpacaEval's annotations or MT-Bench's judgements.")  # fmt: skip
@common_options.budget
@common_options.only_plan
@common_options.runs
@common_options.markdown
@common_options.as_json
def evaluate(pipeline: Path, a: Path, b: Path, as_json: bool, **options: Any) -> int:
    """Compare two policies on the questions of PIPELINE's data: wins, ties and losses of A, with intervals.

    The judge of the pipeline gives each answer a reward (wins are also counted by dimension), or with --compare sees
    both at once, in both orders. Answers come from runs that sampled them, or from files: rows of sample_id and text,
    AlpacaEval's outputs, MT-Bench's model answers, LongBench's predictions. A policy that is a pipeline file is sampled
    first, one answer a question, in RUNS/PIPELINE-evaluate-a and -b, where the same command continues.

    Where the data has references, F1 and ROUGE-L are computed, too; where a dimension judges statements, each policy's
    facts an answer and how many of them are supported.
    """
    from lrf.cli.judging import need_extra, show_plans, show_tables, write_markdown
    from lrf.cli.output import show_json
    from lrf.cli.policies import Policies
    from lrf.config import load_pipeline
    from lrf.evaluation.duels import Duels
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.data import data_samples

    need_extra("bench", "scipy", "sklearn")
    catalog = load_catalog()
    base = load_pipeline(pipeline, catalog)
    policies = Policies.of(base, catalog, {"a": a, "b": b}, options["runs"])
    asking = _asking(base, catalog, options)
    data = partial(data_samples, base)
    if options["only_plan"]:
        plans = policies.plans(data)
    elif code := policies.sample(data, options["budget"]):
        return code
    with Duels(policies.paths["a"], policies.paths["b"]) as duels:
        matched = duels.matched(data_samples(base, duels.counts))
        if asking is None:
            deque(matched, maxlen=0)
        else:
            asking.write(duel.row(compare=options["compare"]) for duel in matched)
        if not duels:
            raise DataError(f"{a} and {b} have no answers to the same question of the data (by id, or by the question)")
        if options["only_plan"]:
            plans |= {"": asking.plan()} if asking else {}
            if not plans:
                raise ConfigError("--plan and --no-judge: there is nothing to plan")
            show_plans(plans, base, as_json=as_json)
            return 0
        dimensions = [block.name for block in base.dimensions]
        found = _found(duels, asking, policies.spent, dimensions, options)
    if options["markdown"] is not None:
        write_markdown(options["markdown"], found.tables(), found.remarks())
    if as_json:
        show_json(found.as_json())
    else:
        show_tables(found.tables(), found.remarks())
    return found.code


def _asking(base: Pipeline, catalog: Catalog, options: Mapping[str, Any]) -> JudgingRun | None:
    """The run that asks the judge; None without one. Raises :class:`lrf.errors.ConfigError`."""
    from lrf.cli.judging import JudgingRun

    if options["no_judge"]:
        return None
    compare = options["compare"]
    name = f"{base.name}-evaluate{'-compare' if compare else ''}"
    asking = JudgingRun(
        base, catalog, options["runs"], name, options["dimensions"], options["judge"] if compare else None,
        budget=options["budget"],
    )  # fmt: skip
    asking.pipeline()  # refuses before anything is asked
    return asking


@dataclass(slots=True)
class Found:
    """What is known of the two policies.

    Parameters
    ----------
    outcomes: wins, ties and losses, by judge, dimension, people or file; ``without``: by reward without a dimension.
    means: each policy's means, by the title of their table.
    people: how far people agree; None without sheets.
    price: what the sampling and the judge took; ``code`` is the exit code of the judge's run.
    """

    counts: dict[str, int]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    without: dict[str, Outcome] = field(default_factory=dict)
    means: dict[str, Means] = field(default_factory=dict)
    people: Agreement | None = None
    price: Mapping[str, JSON] | None = None
    code: int = 0

    def tables(self) -> list[Table]:
        from lrf.evaluation.policies import means_table, outcome_table

        first = [outcome_table(self.outcomes)] if self.outcomes else []
        first += [self.people.table()] if self.people is not None and self.people.judges else []
        return first + [means_table(title, means) for title, means in self.means.items() if means]

    def remarks(self) -> list[str]:
        from lrf.cli.judging import price_line

        lines = [f"{name}: {n:,}" for name, n in self.counts.items()]
        lines += [price_line(self.price)] if self.price else []
        return lines + ([] if self.people is None else self.people.remarks())

    def as_json(self) -> Mapping[str, JSON]:
        return {
            "counts": dict(self.counts),
            "outcomes": {name: outcome.as_json() for name, outcome in self.outcomes.items()},
            **{title: {n: {p: share.as_json() for p, share in of.items()} for n, of in means.items()}
               for title, means in self.means.items()},
            "people": None if self.people is None else self.people.as_json(),
            "price": self.price,
        }  # fmt: skip


def _found(
    duels: Duels, asking: JudgingRun | None, spent: Mapping[str, JSON], dimensions: Sequence[str],
    options: Mapping[str, Any],
) -> Found:  # fmt: skip
    """Ask the judge, and read what people and other tools say."""
    from lrf.cli.judging import left_of
    from lrf.evaluation.other_tools import read_verdicts, write_for_others
    from lrf.evaluation.people import people_agreement, people_outcomes, sheets_of, write_sheet
    from lrf.evaluation.policies import by_reference

    if options["sheet"] is not None:
        write_sheet(options["sheet"], duels.shuffled(), dimensions)
    if options["export"] is not None:
        write_for_others(options["export"], duels)
    found = Found(dict(duels.counts), means={"rewards": {}, "references": by_reference(duels), "facts": {}})
    found.price = spent or None
    if asking is not None:
        left = left_of(options["budget"], spent) if spent else options["budget"]
        if left == "":
            raise BudgetError("the budget is used up by the answers; a larger --budget has them judged")
        _ask(found, duels, replace(asking, budget=left), options)
    if sheets := sheets_of(options["people"], duels, found.counts):
        found.people = people_agreement(sheets, {**found.outcomes, **found.without})
        found.outcomes |= people_outcomes(sheets)
    for path in options["verdicts"]:
        found.outcomes[path.name] = read_verdicts(path, duels)
    return found


def _ask(found: Found, duels: Duels, asking: JudgingRun, options: Mapping[str, Any]) -> None:
    """Have the judge rate or compare the answers, and add what it says."""
    from lrf.cli.judging import added, price_of
    from lrf.evaluation.policies import by_comparison, by_rewards, facts_of, means_of
    from lrf.stages.score.rows import judgement_rows

    summary = asking.run()
    found.price, found.code = added(found.price or {}, price_of(summary)), summary.exit_code
    if "score" not in summary.stages:
        return
    scores, ids = asking.scores(), [duel.sample.id for duel in duels]
    if options["compare"]:
        found.outcomes["comparison"] = by_comparison(ids, scores)
        return
    found.outcomes |= by_rewards(ids, scores, options["margin"])
    found.without |= by_rewards(ids, scores, options["margin"], without=True)
    found.means["rewards"] = means_of(ids, scores)
    found.means["facts"] = facts_of(judgement_rows(asking.files.judgements))
