"""``lrf plan``: what a pipeline will do and need, before it does it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lrf.config import Budget, Pipeline
    from lrf.planning.plan import Plan


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--samples", default=200, show_default=True, type=click.IntRange(1),
              help="How many samples to go through in full; the rest is scaled.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(pipeline: Path, samples: int, as_json: bool) -> None:
    """Say what PIPELINE will do, need and cost: stages, judge calls, tokens and prices by dimension, embeddings.

    Every row of the data is read and no server is called. For what is expected, the number of statements is assumed (a
    sentence of the answer each), and so is the length of replies; equal requests are counted once, as the engine sends
    them once. What it can come to at most assumes nothing: a run over the same data stays below.
    """
    from lrf.cli.output import show_json
    from lrf.config import load_pipeline
    from lrf.planning.plan import plan_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir
    from lrf.stages.runner import chosen_stages
    from lrf.stages.train.launch import plan_launch

    checked = load_pipeline(pipeline, load_catalog())
    stages = chosen_stages(checked, None, None)
    launch = plan_launch(checked, RunDir(Path("runs").absolute() / checked.name)).about if checked.train else None
    made = asyncio.run(plan_pipeline(checked, priced_samples=samples)) if checked.data else None
    if as_json:
        scoring = made.as_json() if made else {}
        show_json({"stages": stages, **scoring, "train": launch})
        return
    click.echo(f"stages: {' → '.join(stages)}")
    if made:
        _show_scoring(made, checked)
    if launch:
        _show_training(launch)


def _show_training(launch: Mapping[str, Any]) -> None:
    from lrf.cli.output import clean

    many = f"{launch['processes']:,} processes" if launch["processes"] > 1 else "one process"
    where = f" on {launch['machines']:,} machines" if launch["machines"] > 1 else ""
    batch = ""
    if launch["global_batch"]:
        share = f", {launch['sequence_parallel']} share a sequence" if launch["sequence_parallel"] > 1 else ""
        batch = (
            f": {launch['global_batch']:,} a step = {launch['data_parallel']:,} at once × {launch['micro_batch']:,} "
            f"each × {launch['accumulation']:,} one after the other{share}"
        )
    click.echo(f"training: {launch['trainer']}, {many}{where} ({launch['launcher']}){batch}")
    memory = launch["memory"] or {}
    if "gib" in memory:
        parts = ", ".join(f"{name.replace('_', ' ')} {gib:,}" for name, gib in memory["gib"].items())
        click.echo(
            f"memory a GPU, estimated: {memory['gib_together']:,} GiB ({parts}), for a longest sample of "
            f"{memory['longest']:,} tokens; leave 15 % more"
        )
    elif memory:
        click.echo(clean(f"memory a GPU: unknown; {memory['unknown']}"))


def _show_scoring(made: Plan, checked: Pipeline) -> None:
    given = f"{made.candidates - made.to_sample:,} candidates"
    more = f" and {made.to_sample:,} to be sampled" if made.to_sample else ""
    click.echo(f"data: {made.samples:,} samples, {given}{more}, {made.bad_rows:,} bad rows")
    click.echo(f"documents: {made.document_tokens:,} tokens, the longest {made.longest_document_tokens:,}")
    if made.dimensions:
        who = {b.name: ", ".join(b.judges) for b in checked.dimensions}
        _show_dimensions(made, who, checked.budget)
    if made.bad_rows:
        click.echo(f"bad rows: `lrf run` will {'leave them out' if checked.on_bad_row == 'skip' else 'stop at them'}")


def _show_dimensions(made: Plan, judges: Mapping[str, str], budget: Budget) -> None:
    """What is expected and what it comes to at most, each a table, and what they rest on."""
    from lrf.cli.output import clean, table
    from lrf.config.prices import SAMPLING
    from lrf.planning.sampling import BYTES_A_TOKEN, CANDIDATE_TOKENS

    total = made.total()
    lines = (*made.dimensions.items(), ("total", total))

    def price(amount: float | None) -> str:
        return "-" if amount is None else f"{amount:,.2f}" if amount >= 10 else f"{amount:.4g}"

    paid = f"price, {made.currency}" if made.currency else "price"
    click.echo("\nexpected:")
    table(
        ("dimension", "judge", "calls", "tokens read", "of them shared", "tokens written", paid),
        [
            (name, judges.get(name, ""), f"{e.calls:,}", f"{e.prompt_tokens:,}", f"{e.shared_tokens:,}",
             f"{e.reply_tokens:,}", price(e.price))
            for name, e in lines
        ],
    )  # fmt: skip
    answers = f" ({made.statements / made.candidates:.1f} an answer)" if made.candidates else ""
    click.echo(f"assumed: {made.statements:,} statements{answers}, one for each sentence; every reply is readable")
    click.echo("shared: stands at the beginning of an earlier prompt too, so a prefix cache saves it")
    click.echo(f"embedded: {made.embedded_texts:,} texts, not priced")
    click.echo("\nat most:" if made.bound_holds else "\nat most (an estimate, see below):")
    table(
        ("dimension", "calls", "tokens read", "tokens written", paid),
        [
            (name, *(f"{n:,}" for n in (e.most_calls, e.most_prompt_tokens, e.most_reply_tokens)), price(e.most_price))
            for name, e in lines
        ],
    )
    click.echo("every question asked five times, every reply as long as it may be, a token a byte of prompt")
    for name, statements in sorted(made.most_statements.items()):
        click.echo(f"{name}: {statements:,} statements an answer")
    if made.to_sample:
        click.echo(
            f"to be sampled: answers of {CANDIDATE_TOKENS} tokens are expected, and at most `max_tokens` of "
            f"{BYTES_A_TOKEN} bytes each; scoring them at most is an estimate"
        )
    if made.calibration_samples:
        click.echo(f"the calibration set's {made.calibration_samples:,} samples, scored twice, are in these figures")
    if made.priced_samples < made.samples:
        click.echo(
            f"{made.priced_samples:,} of {made.samples:,} samples were gone through, the rest is scaled; "
            f"--samples {made.samples} makes the most a bound"
        )
    elif not made.bound_holds and not made.to_sample:
        click.echo("a dimension has no `max_statements`: that number of statements is assumed")
    if made.currency:
        batches = f"; the batch discount of {', '.join(made.batches)} is in them" if made.batches else ""
        click.echo(clean(f"prices of {made.prices}, with those for cached input{batches}"))
    for name, model in made.unpriced.items():
        who = "sampler" if name == SAMPLING else f"judge {name}"
        click.echo(clean(f"no price for the {who} ({model}); `prices:` gives one"))
    budgets: tuple[tuple[str, float | None, float | None, float | None], ...] = (
        ("calls", budget.calls, total.calls, total.most_calls),
        ("tokens", budget.tokens, total.prompt_tokens + total.reply_tokens,
         total.most_prompt_tokens + total.most_reply_tokens),
        (made.currency or "money", budget.money, total.price, total.most_price),
    )  # fmt: skip
    for what, limit, expected, most in budgets:
        if limit is not None and expected is not None and most is not None:
            says = "less than is expected" if limit < expected else "less than the most" if limit < most else "enough"
            click.echo(f"budget: {limit:,} {what}: {says}")
