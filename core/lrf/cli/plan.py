"""``lrf plan``: what a pipeline will do and need, before it does it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--samples", default=200, show_default=True, type=click.IntRange(1),
              help="How many samples to go through in full; the rest is scaled.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(pipeline: Path, samples: int, as_json: bool) -> None:
    """Say what PIPELINE will do and need: stages, judge calls and tokens by dimension, embeddings.

    Every row of the data is read and no server is called. The number of statements is assumed (a sentence of the
    answer each), and so is the length of replies; equal requests are counted once, as the engine sends them once.
    """
    from lrf.catalog import load_catalog
    from lrf.cli.output import table
    from lrf.config import load_pipeline
    from lrf.stages.plan import plan_pipeline
    from lrf.stages.runner import chosen_stages

    checked = load_pipeline(pipeline, load_catalog())
    made = asyncio.run(plan_pipeline(checked, priced_samples=samples))
    stages = chosen_stages(checked, None, None)
    if as_json:
        click.echo(json.dumps({"stages": stages, **made.as_json()}, ensure_ascii=False, indent=2))
        return
    total = made.total()
    click.echo(f"stages: {' → '.join(stages)}")
    click.echo(f"data: {made.samples:,} samples, {made.candidates:,} candidates, {made.bad_rows:,} bad rows")
    click.echo(f"documents: {made.document_tokens:,} tokens, the longest {made.longest_document_tokens:,}")
    if made.dimensions:
        header = ("dimension", "judge", "calls", "tokens read", "tokens written", "written at most")
        judges = {b.name: ", ".join(b.judges) or "-" for b in checked.dimensions}
        rows = []
        for name, e in (*made.dimensions.items(), ("total", total)):
            numbers = (e.calls, e.prompt_tokens, e.reply_tokens, e.most_reply_tokens)
            rows.append((name, judges.get(name, "-"), *(f"{n:,}" for n in numbers)))
        table(header, rows)
        click.echo(f"assumed: {made.statements:,} statements; {made.embedded_texts:,} texts are embedded")
        click.echo('a reply without a mark is asked again, up to four times; "at most" counts each call once')
        if made.priced_samples < made.samples:
            click.echo(f"{made.priced_samples} of {made.samples:,} samples were gone through, the rest is scaled")
    if made.bad_rows:
        click.echo(f"bad rows: `lrf run` will {'leave them out' if checked.on_bad_row == 'skip' else 'stop at them'}")
