"""``lrf rescore``: score again what is unscored, or one dimension."""

from __future__ import annotations

from pathlib import Path

import click

from lrf.cli import common_options


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--failed", is_flag=True, help="Ask the questions that left candidates unscored up to five times more.")
@click.option("--dimension", "dimensions", multiple=True, metavar="NAME",
              help="Ask every question of this dimension again. May be given several times.")  # fmt: skip
@common_options.runs
def rescore(pipeline: Path, failed: bool, dimensions: tuple[str, ...], runs: Path) -> int:
    """Score again what is unscored, or one dimension, in a run of PIPELINE; then rewrite its files and pairs.

    All other replies come from the run's journal and cost nothing. Replaced replies stay in the journal. A rescore that
    was stopped or killed resumes with the same command. Training is left to `lrf run`.

    Exit codes are those of `lrf run`.
    """
    from lrf.cli.outlook import outlook, show_changes
    from lrf.cli.progress import progress
    from lrf.cli.summary import show
    from lrf.config import load_pipeline
    from lrf.engine import event_loop as interpreter
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir
    from lrf.stages.runner import run_pipeline
    from lrf.stages.score.rescore import Rescore, begin_rescore

    if failed == bool(dimensions):
        raise click.UsageError("give either --failed or --dimension NAME")
    catalog = load_catalog()
    checked = load_pipeline(pipeline, catalog)
    wanted = Rescore(failed, tuple(dict.fromkeys(dimensions)))
    counts: list[int] = []

    def begin(run: RunDir) -> dict[str, object]:
        counts.append(begin_rescore(checked, run, wanted))
        return {"command": str(wanted), "candidates": counts[0]}

    with progress() as display:
        run_dir = RunDir(runs.absolute() / checked.name)
        show_changes(checked, run_dir, display)
        look = outlook(checked, pipeline, run_dir, display)
        work = run_pipeline(
            checked, catalog, runs, last="pairs", report=display, signals=True, before=begin, before_paying=look
        )
        summary = interpreter.run(work)
    if counts == [0]:
        click.echo("nothing is unscored")
    show(summary)
    return summary.exit_code
