"""``lrf run``: a pipeline from its data to a policy."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.stages.runner import RunSummary

STAGES = ("data", "sample", "score", "pairs", "train")


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
              help="The folder of run directories; the run's own is named by the pipeline's `name:`.")  # fmt: skip
@click.option("--from", "first", type=click.Choice(STAGES), help="Begin with this stage.")
@click.option("--until", "last", type=click.Choice(STAGES), help="End with this stage.")
@click.option("--dry-run", is_flag=True, help="Only write what would train the policy to the run's launch/ folder.")
def run(pipeline: Path, runs: Path, first: str | None, last: str | None, dry_run: bool) -> int:
    """Run PIPELINE: check the data, sample and score candidates, choose pairs, train the policy.

    What is done is not done again: a run that was stopped or killed goes on from there with the same command.
    Ctrl-C once finishes the calls in flight and leaves a valid partial result; twice ends at once.

    Exit codes: 0 finished; 1 a stage failed; 2 a mistake in the pipeline, the data or the command; 3 more is
    unscored than the pipeline allows, or counts don't add up; 4 stopped by the budget; 130 interrupted.
    """
    from lrf.cli.progress import progress
    from lrf.config import load_pipeline
    from lrf.engine import event_loop as interpreter
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.runner import run_pipeline

    catalog = load_catalog()
    checked = load_pipeline(pipeline, catalog)
    if dry_run:
        _dry_run(checked, runs)
        return 0
    with progress() as report:
        summary = interpreter.run(
            run_pipeline(checked, catalog, runs, first=first, last=last, report=report, signals=True)
        )
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


def show(summary: RunSummary) -> None:
    """The table at the end: samples, candidates, scored, unscored, pairs, calls, tokens, time, files."""
    from lrf.cli.output import clean, table

    for change in summary.changed:
        click.echo(clean(f"changed since the last run: {change}"))
    data, score = summary.stages.get("data", {}), summary.stages.get("score", {})
    pairs, train = summary.stages.get("pairs", {}), summary.stages.get("train", {})
    rows: list[tuple[str, str]] = []

    def add(label: str, value: object, more: str = "") -> None:
        if value is not None:
            rows.append((label, f"{value:,}{more}" if isinstance(value, int) else f"{value}{more}"))

    add("samples", data.get("samples"), f" ({data['bad_rows']} bad rows left out)" if data.get("bad_rows") else "")
    sample = summary.stages.get("sample", {})
    given = {**data, **sample} if "sampled" in sample else data
    dropped = ", ".join(f"{reason} {n}" for reason, n in sample.get("dropped", {}).items())
    drawn = f" ({sample['drawn']:,} sampled; dropped: {dropped or 'none'})" if "drawn" in sample else ""
    add("candidates", given.get("candidates"), drawn)
    lost = ", ".join(f"{reason} {n}" for reason, n in sample.get("reasons", {}).items())
    add("not sampled", sample.get("left_out") or None, f" samples ({lost})")
    if "calls" in sample:
        add("sampler's calls", sample["calls"], f" ({sample['reused']:,} reused, {sample['faults']:,} faults; "
            f"{sample['prompt_tokens']:,} tokens read, {sample['completion_tokens']:,} written)")  # fmt: skip
    add("scored", score.get("scored"))
    reasons = ", ".join(f"{reason} {n}" for reason, n in list(score.get("reasons", {}).items())[:4])
    add("unscored", score.get("unscored"), f" ({reasons})" if reasons else "")
    for name, numbers in score.get("counted", {}).items():
        told = ", ".join(f"{what.replace('_', ' ')} {n:,}" for what, n in numbers.items() if n)
        add(name, told or None)
    why = ", ".join(f"{reason} {n}" for reason, n in list(pairs.get("reasons", {}).items())[:4])
    add("pairs", pairs.get("pairs"), f" ({pairs['left_out']} samples left out: {why})" if why else "")
    if "calls" in score:
        spared = f", {score['spared']:,} spared by a cascade" if score.get("spared") else ""
        add("judge calls", score["calls"], f" ({score['reused']:,} replies reused, {score['faults']:,} faults{spared})")
        cached = f", {score['cached_tokens']:,} cached" if score["cached_tokens"] else ""
        add("tokens", score["prompt_tokens"] + score["completion_tokens"],
            f" ({score['prompt_tokens']:,} read{cached}; {score['completion_tokens']:,} written)")  # fmt: skip
        add("embedded texts", score["embedded_texts"], f" in {score['embedding_calls']:,} calls")
        add("money", _money(score.get("money", {})))
    add("training steps", train.get("steps"))
    add("time", f"{summary.seconds:.1f} s")
    add("files", f"{summary.run_dir}: {', '.join(summary.files.values())}")
    table((summary.run_dir.name, summary.status), rows)
    for alarm in score.get("alarms", ()):
        click.echo(f"alarm: {clean(alarm['message'])}")
    if summary.message:
        click.echo(f"{summary.status}: {clean(summary.message, lines=True)}", err=True)
    sys.stdout.flush()


def _money(money: Mapping[str, Any]) -> str | None:
    """What was spent, and on which models it can't be said."""
    spent = ", ".join(f"{n:,.6g} {currency}" for currency, n in money.get("spent", {}).items())
    unpriced = ", ".join(f"{model} ({n:,} calls)" for model, n in money.get("unpriced_calls", {}).items())
    parts = [f"{spent} over all sittings, at the prices of {money['prices']}"] if spent else []
    parts += [f"no price for {unpriced}; `prices:` gives one"] if unpriced else []
    return "; ".join(parts) or None
