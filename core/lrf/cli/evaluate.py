"""``lrf evaluate``: did the policy get better? Two policies' answers, judged blind, and by people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.evaluation.policies import Duel, Outcome
    from lrf.plugin.catalog import Catalog
    from lrf.stages.run_dir import RunDir
    from lrf.types import JSON


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-a", "a", required=True, type=click.Path(exists=True, path_type=Path),
              help="The first policy's answers: a file, or the folder of a run that sampled them.")  # fmt: skip
@click.option("-b", "b", required=True, type=click.Path(exists=True, path_type=Path),
              help="The second policy's answers, such as those of the policy before training.")  # fmt: skip
@click.option("--compare", is_flag=True, help="Show the judge both answers at once, in both orders.")
@click.option("--judge", default="", help="With --compare: which of the pipeline's judges.")
@click.option("--dimension", "dimensions", multiple=True, help="Only this dimension of the pipeline; repeat for more.")
@click.option("--margin", default=0.0, show_default=True, type=click.FloatRange(0, 10),
              help="Rewards that are at most this far apart are a tie.")  # fmt: skip
@click.option("--no-judge", is_flag=True, help="Ask no judge: only references and people's sheets.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path),
              help="Write a blind sheet for people: .csv, or .json for Label Studio.")  # fmt: skip
@click.option("--people", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A sheet that somebody filled in; repeat for each person.")  # fmt: skip
@click.option("--budget", help="What may be paid at most: money=N, calls=N or tokens=N.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what it will ask and cost, and ask nothing.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
              help="The folder of run directories.")  # fmt: skip
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables to this file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(pipeline: Path, a: Path, b: Path, as_json: bool, **options: Any) -> int:
    """Compare two policies on the questions of PIPELINE's data: wins, ties and losses of A, with intervals.

    The judge of the pipeline gives each answer a reward (wins are also counted by dimension), or with --compare sees
    both at once, in both orders. Answers come from runs that sampled them, or from files: rows of sample_id and text,
    AlpacaEval's outputs, MT-Bench's model answers, LongBench's predictions. Where the data has references, F1 and
    ROUGE-L are computed, too.
    """
    from lrf.build import source_of
    from lrf.cli.judging import need_extra, show_tables, write_markdown
    from lrf.cli.output import show_json
    from lrf.config import load_pipeline
    from lrf.evaluation.people import people_agreement, people_outcome, read_sheet, write_sheet
    from lrf.evaluation.policies import by_reference, duels, outcome_table, read_answers, reference_table
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.reading import good_samples

    need_extra("bench", "scipy", "sklearn")
    catalog = load_catalog()
    base = load_pipeline(pipeline, catalog)
    counts: Counter[str] = Counter()
    asking = None if options["no_judge"] else Asking(base, catalog, options)
    found = duels(good_samples(source_of(base)), read_answers(a), read_answers(b), counts)
    matches = asking.written(found) if asking else [match.without_documents() for match in found]
    if not matches:
        raise DataError(f"{a} and {b} have no answers to the same question of the data (by id, or by the question)")
    if options["only_plan"]:
        if asking is None:
            raise ConfigError("--plan and --no-judge: there is nothing to plan")
        return asking.plan(as_json=as_json)
    if options["sheet"] is not None:
        write_sheet(options["sheet"], matches)
    outcomes, price, code = asking.judged(matches) if asking else ({}, None, 0)
    remarks = [f"{name}: {n:,}" for name, n in counts.items()]
    sheets = [read_sheet(path) for path in options["people"]]
    agreement = None
    if sheets:
        judge = next(iter(outcomes.values()), None)
        outcomes["people"] = people_outcome(sheets)
        agreement = people_agreement(sheets, {} if judge is None else judge.by_question)
        remarks += [f"people, {key}: {value}" for key, value in agreement.items()]
    references = by_reference(matches)
    tables = ([outcome_table(outcomes)] if outcomes else []) + ([reference_table(references)] if references else [])
    if options["markdown"] is not None:
        write_markdown(options["markdown"], tables, remarks)
    if as_json:
        show_json({
            "counts": dict(counts), "outcomes": {name: outcome.as_json() for name, outcome in outcomes.items()},
            "references": {n: {p: share.as_json() for p, share in of.items()} for n, of in references.items()},
            "people": agreement, "price": price,
        })  # fmt: skip
    else:
        show_tables(tables, remarks)
    return code


@dataclass(slots=True)
class Asking:
    """The run that asks the judge about both policies' answers."""

    base: Pipeline
    catalog: Catalog
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.base.name}-evaluate{'-compare' if self.options['compare'] else ''}"

    @property
    def run(self) -> RunDir:
        from lrf.stages.run_dir import RunDir

        return RunDir(self.options["runs"].absolute() / self.name)

    def written(self, matches: Iterator[Duel]) -> list[Duel]:
        """Write the questions as the run's data; returns the matches without their documents."""
        from lrf.evaluation.questions import write_rows

        kept: list[Duel] = []

        def rows() -> Iterator[Mapping[str, JSON]]:
            for match in matches:
                kept.append(match.without_documents())
                yield match.row(compare=self.options["compare"])

        self.run.path.mkdir(parents=True, exist_ok=True)
        write_rows(rows(), self.run.path / "questions.jsonl")
        return kept

    def pipeline(self) -> Pipeline:
        from lrf.evaluation.pipelines import judging_pipeline

        return judging_pipeline(
            self.base, self.catalog, name=self.name, rows=self.run.path / "questions.jsonl",
            dimensions=self.options["dimensions"], budget=self.options["budget"],
            comparison=self.options["judge"] if self.options["compare"] else None,
        )  # fmt: skip

    def plan(self, *, as_json: bool) -> int:
        from lrf.cli.judging import show_plan

        show_plan(self.pipeline(), self.options["runs"], as_json=as_json)
        return 0

    def judged(self, matches: Sequence[Duel]) -> tuple[dict[str, Outcome], Any, int]:
        """The outcomes by the judge, what they cost, and the run's exit code."""
        from lrf.cli.judging import price_of, run_judging
        from lrf.evaluation.judgements import read_rewards
        from lrf.evaluation.policies import by_comparison, by_rewards

        summary = run_judging(self.pipeline(), self.catalog, self.options["runs"])
        if "score" not in summary.stages:
            return {}, price_of(summary), summary.exit_code
        scores, ids = read_rewards(self.run.rewards), [match.sample.id for match in matches]
        if self.options["compare"]:
            return {"comparison": by_comparison(ids, scores)}, price_of(summary), summary.exit_code
        return by_rewards(ids, scores, self.options["margin"]), price_of(summary), summary.exit_code
