"""``lrf run``: run a pipeline, from its data to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrf.cli import common_options

if TYPE_CHECKING:
    from lrf.config import Pipeline

STAGES = ("data", "sample", "score", "pairs", "train")
"""The names in ``lrf.stages.order``, which takes long to import."""


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common_options.runs
@click.option("--from", "first", type=click.Choice(STAGES), help="Begin with this stage.")
@click.option("--until", "last", type=click.Choice(STAGES), help="End with this stage.")
@click.option(
    "--dry-run", is_flag=True, help="Only write the training's scripts and settings to the run's launch/ folder."
)
@click.option("--replace", is_flag=True, help="Train in place of a policy made with other data or settings.")
def run(pipeline: Path, runs: Path, first: str | None, last: str | None, dry_run: bool, replace: bool) -> int:
    """Run PIPELINE: check the data, sample and score candidates, choose pairs, train the policy.

    A run that was stopped or killed resumes with the same command; finished stages are skipped and replies in the
    journal are not paid for again. Ctrl-C once finishes the calls in flight and leaves a valid partial result; twice
    ends at once. SIGTERM and SIGHUP do the same.

    Exit codes: 0 finished; 1 a stage failed; 2 a mistake in the pipeline, the data or the command; 3 more is
    unscored than the pipeline allows, or counts don't add up; 4 stopped by the budget; 130 interrupted.
    """
    from lrf.cli.outlook import outlook, show_changes
    from lrf.cli.progress import progress
    from lrf.cli.summary import show
    from lrf.config import load_pipeline
    from lrf.engine import event_loop as interpreter
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir
    from lrf.stages.runner import run_pipeline

    catalog = load_catalog()
    checked = load_pipeline(pipeline, catalog)
    if dry_run:
        _dry_run(checked, runs)
        return 0
    run_dir = RunDir(runs.absolute() / checked.name)
    with progress() as display:
        show_changes(checked, run_dir, display)
        look = outlook(checked, pipeline, run_dir, display)
        work = run_pipeline(
            checked,
            catalog,
            runs,
            first=first,
            last=last,
            report=display,
            signals=True,
            before_paying=look,
            replace=replace,
        )
        summary = interpreter.run(work)
    show(summary)
    return summary.exit_code


def _dry_run(pipeline: Pipeline, runs: Path) -> None:
    from lrf.cli.output import clean
    from lrf.stages.runner import run_directory
    from lrf.stages.train.launch import prepare_launch
    from lrf.store.lock import RunLock

    run = run_directory(runs, pipeline.name)
    with RunLock(run.path):
        made = prepare_launch(pipeline, run)
    for name in ("plan.json", *made.about["files"]):
        click.echo(clean(str(run.launch / name)))
    if made.plan.note:
        click.echo(clean(made.plan.note))
