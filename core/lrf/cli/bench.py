"""``lrf bench``: a judge on a benchmark with known answers, or on people's own labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.cli import common_options
from lrf.errors import ConfigError

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.evaluation.bench import BenchResult
    from lrf.plugin.catalog import Catalog
    from lrf.protocols import Benchmark


@click.command()
@click.argument("name", metavar="NAME|LABELS")
@click.option("--data", "data", multiple=True, metavar="PATH|hf:OWNER/NAME",
              help="The benchmark's file, or several of them, or its folder; or a data set on the Hugging Face hub "
              "(hf:OWNER/NAME, or hf:OWNER/NAME/FILES with a pattern such as data/test-*).")  # fmt: skip
@click.option("--pipeline", "-p", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Ask the judge of this pipeline, with its dimensions and settings.")  # fmt: skip
@click.option("--recorded", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Judgements recorded by the benchmark's authors, or rewards (sample_id, candidate_id, reward); "
              "of two files the difference is tested.")  # fmt: skip
@click.option("--run", "run", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="With LABELS: the run whose rewards are compared with them.")  # fmt: skip
@click.option("--compare", is_flag=True, help="Show the judge both answers at once, in both orders.")
@click.option("--judge", default="", help="With --compare: the judge of the pipeline to ask.")
@common_options.dimensions
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the benchmark.")
@click.option("--limit", type=click.IntRange(1), help="Ask only this many questions, chosen by the seed.")
@common_options.seed
@common_options.budget
@common_options.only_plan
@common_options.runs
@click.option("--skip-unknown", is_flag=True, help="With --run: skip labels of answers that the run doesn't have.")
@common_options.markdown
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path),
              help="Draw figures into this folder; left out: into the run's, if there is one.")  # fmt: skip
@common_options.as_json
def bench(name: str, run: Path | None, skip_unknown: bool, as_json: bool, seed: int, **options: Any) -> int:
    """Measure a judge on the benchmark NAME, or a run's rewards on a file of people's LABELS.

    The judge is that of --pipeline, asked as in a run, or it is --recorded. Journal and results are in
    RUNS/PIPELINE-bench-NAME, where the same command continues. `lrf plugins` lists the benchmarks; `pairs` and
    `ratings` are for your own questions with labels.

    LABELS is a CSV, JSON Lines or Parquet file with preferences (sample_id, preferred, other: candidates' ids) or with
    ratings (sample_id, candidate_id, rating: any scale, more is better) of the answers of --run.

    Every table has the trivial baselines: longer wins, shorter wins, random, always the first, and overlap of words.
    Intervals are of 95%. The exit code is that of the run that asked the judge.
    """
    if run is not None:
        from lrf.cli.labels import show_agreement

        return show_agreement(Path(name), run, seed=seed, skip_unknown=skip_unknown, as_json=as_json)
    from lrf.cli.judging import need_extra
    from lrf.config import load_pipeline
    from lrf.evaluation.bench import benchmark_of
    from lrf.plugin.catalog import load_catalog

    need_extra("bench", "scipy", "sklearn")
    catalog = load_catalog()
    benchmark = benchmark_of(catalog, name, _settings(options["data"], options["settings"]))
    if options["compare"] and not benchmark.compares:
        raise ConfigError(f"--compare: the questions of {name} have more or fewer than two answers")
    if bool(options["recorded"]) == (options["pipeline"] is not None):
        raise ConfigError("expected either --pipeline (the judge to ask) or --recorded (its judgements)")
    if options["recorded"]:
        return _finish(_recorded(name, benchmark, seed, options), options, as_json, 0)
    base = load_pipeline(options["pipeline"], catalog)
    return _asked(name, benchmark, base, catalog, seed=seed, as_json=as_json, **options)


def _settings(data: tuple[str, ...], given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    from lrf.evaluation.hub import PREFIX, hub_files

    settings: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected KEY=VALUE; got {one!r}")
        settings[key] = yaml.safe_load(value)
    paths: list[Path] = []
    for one in data:
        if not one.startswith(PREFIX) and not Path(one).exists():
            raise ConfigError(f"--data: {one} does not exist")
        paths += hub_files(one) if one.startswith(PREFIX) else [Path(one)]
    if paths:
        settings["path"] = paths[0] if len(paths) == 1 else paths
    elif "path" not in settings:
        raise ConfigError("--data: the benchmark's file is missing")
    return settings


def _recorded(name: str, benchmark: Benchmark, seed: int, options: dict[str, Any]) -> BenchResult:
    from lrf.evaluation.bench import measured
    from lrf.evaluation.judgements import Say, read_recorded
    from lrf.evaluation.questions import Counts, chosen_questions

    says: dict[str, Say] = {}
    for path in options["recorded"]:
        read = read_recorded(benchmark, path)
        if len(options["recorded"]) > 1:
            stem = path.name.removesuffix(".json").removesuffix(".jsonl")
            read = {f"{stem}: {judge}" if len(read) > 1 else stem: say for judge, say in read.items()}
        says |= read
    counts = Counts()
    questions = chosen_questions(benchmark, counts, options["limit"], seed)
    return measured(name, benchmark, questions, says, counts, seed)


def _asked(
    name: str, benchmark: Benchmark, base: Pipeline, catalog: Catalog, *, seed: int, as_json: bool, runs: Path,
    compare: bool, limit: int | None, **options: Any,
) -> int:  # fmt: skip
    from lrf.cli.judging import JudgingRun, price_of
    from lrf.evaluation.bench import measured
    from lrf.evaluation.judgements import pointing, says, wrong_spans
    from lrf.evaluation.questions import Counts, chosen_questions, question_row
    from lrf.protocols.evaluation import LabelsSpans

    title = f"{base.name}-bench-{name}{'-compare' if compare else ''}"
    comparison = options["judge"] if compare else None
    asking = JudgingRun(base, catalog, runs, title, options["dimensions"], comparison, budget=options["budget"])
    asking.pipeline()  # refuses before anything is written
    asking.write(question_row(q, compare=compare) for q in chosen_questions(benchmark, Counts(), limit, seed))
    if options["only_plan"]:
        asking.show_plan(as_json=as_json)
        return 0
    summary = asking.run()
    if "score" not in summary.stages:  # rewards of an earlier time may be there, of other questions
        return summary.exit_code
    counts = Counts()
    questions = chosen_questions(benchmark, counts, limit, seed)
    judges = says(asking.scores())
    if isinstance(benchmark, LabelsSpans):
        judges["reward"] = pointing(judges["reward"], wrong_spans(asking.files.judgements))
    result = measured(name, benchmark, questions, judges, counts, seed)
    result.price = price_of(summary)
    options["figures"] = options["figures"] or asking.files.path / "figures"
    return _finish(result, options, as_json, summary.exit_code)


def _finish(result: BenchResult, options: Mapping[str, Any], as_json: bool, code: int) -> int:
    from lrf.cli.judging import drawn, show_tables, write_markdown
    from lrf.cli.output import show_json
    from lrf.evaluation.figures import draw_bench

    remarks = result.remarks()
    if (folder := options["figures"]) is not None:
        remarks += drawn(lambda: draw_bench(result, folder))
    if options["markdown"] is not None:
        write_markdown(options["markdown"], result.tables(), remarks)
    if as_json:
        show_json(result.as_json())
    else:
        show_tables(result.tables(), remarks)
    return code
