"""``lrf plan``: what a pipeline will do and need, before it does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.cli import common_options

if TYPE_CHECKING:
    from lrf.config import BudgetSettings, Pipeline
    from lrf.planning.plan import Plan


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--samples", default=200, show_default=True, type=click.IntRange(1),
              help="How many samples to go through in full; the rest is scaled.")  # fmt: skip
@common_options.runs
@click.option("--workers", type=click.IntRange(1),
              help="Also say how long the calls take with this many replicas of the judge's server.")  # fmt: skip
@click.option("--slots", type=click.IntRange(1),
              help="Calls that a replica takes at once; the judges' max_concurrency, if left out.")  # fmt: skip
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="How long a call takes then; `lrf doctor PIPELINE` measures one.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    pipeline: Path, samples: int, runs: Path, workers: int | None, slots: int | None, seconds: float, as_json: bool
) -> None:
    """Show what PIPELINE will do, need and cost: stages, judge calls, tokens and prices by dimension, embeddings.

    Every row of the data is read; no server is called and no file is written. Replies that the run's journal (or the
    pipeline's cache) has already are used as they are and counted as paid. For the rest, the number of statements is
    assumed (one for each sentence of an answer), and so is the length of replies. Equal requests are counted once, as a
    run sends them once. The upper bound assumes neither: a run over the same data stays below it.
    """
    from lrf.cli.output import clean, show_json
    from lrf.config import load_pipeline
    from lrf.planning.machines import forecast
    from lrf.planning.plan import plan_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.before_paying import problems_of_plan
    from lrf.stages.run_dir import RunDir
    from lrf.stages.runner import chosen_stages
    from lrf.stages.train.launch import plan_launch

    catalog = load_catalog()
    checked = load_pipeline(pipeline, catalog)
    run = RunDir(runs.absolute() / checked.name)
    chosen = chosen_stages(checked)
    for stage in chosen:
        stage.check(checked, run)
    stages = [stage.name for stage in chosen]
    in_vain = problems_of_plan(checked, catalog, run, chosen)
    launch = plan_launch(checked, run).about if checked.train else None
    planned = asyncio.run(plan_pipeline(checked, run=run, priced_samples=samples)) if checked.data else None
    at_once = slots or (planned.slots if planned else 0)
    machines = forecast(planned, workers, at_once, seconds) if planned and workers and at_once else None
    if as_json:
        scoring = planned.as_json() if planned else {}
        with_workers = {"workers": machines.as_json()} if machines else {}
        show_json({"stages": stages, **scoring, **with_workers, "train": launch, "in_vain": in_vain})
        return
    click.echo(f"stages: {' → '.join(stages)}")
    if planned:
        show_scoring(planned, checked)
    for line in machines.sentences() if machines else ():
        click.echo(line)
    if launch:
        _show_training(launch)
    for problem in in_vain:
        click.echo(clean(f"`lrf run` will not begin: {problem}"))


def paid_and_left(planned: Plan) -> str:
    """One line on the calls of a plan: how many there are, how many are paid already, and what the others cost."""
    total = planned.total()
    paid = f", {total.kept_calls:,} of them paid already" if total.kept_calls else ""
    price = f", about {_price(total.left_price)} {planned.currency}" if planned.currency and total.left_calls else ""
    return f"{total.calls:,} calls are expected{paid}; {total.left_calls:,} are left to pay{price}"


def show_scoring(planned: Plan, checked: Pipeline) -> None:
    """Print the plan of sampling and scoring."""
    given = f"{planned.candidates - planned.to_sample:,} candidates"
    by = f"that {planned.written_by} writes while it trains" if planned.written_by else "to be sampled"
    more = f" and {planned.to_sample:,} {by}" if planned.to_sample else ""
    click.echo(f"data: {planned.samples:,} samples, {given}{more}, {planned.bad_rows:,} bad rows")
    click.echo(f"documents: {planned.document_tokens:,} tokens, the longest {planned.longest_document_tokens:,}")
    if planned.dimensions:
        _show_expected(planned, {block.name: ", ".join(block.judges) for block in checked.dimensions})
        _show_upper_bound(planned)
        for line in (*_caveats(planned), *_prices(planned), *_budget(planned, checked.budget)):
            click.echo(line)
    if planned.bad_rows:
        action = "leave out the bad rows" if checked.on_bad_row == "skip" else "stop at the bad rows"
        click.echo(f"`lrf run` will {action}")


def _show_expected(planned: Plan, judges: Mapping[str, str]) -> None:
    from lrf.cli.output import table

    paid = any(e.kept_calls for e in planned.dimensions.values())
    left = ("paid already", "left to pay", f"left{_in(planned)}") if paid else ()
    click.echo("\nexpected:")
    rows = []
    for name, e in (*planned.dimensions.items(), ("total", planned.total())):
        cells = [name, judges.get(name, ""), f"{e.calls:,}", f"{e.prompt_tokens:,}", f"{e.shared_tokens:,}"]
        cells += [f"{e.reply_tokens:,}", _price(e.price)]
        cells += [f"{e.kept_calls:,}", f"{e.left_calls:,}", _price(e.left_price)] if paid else []
        rows.append(cells)
    head = ("dimension", "judge", "calls", "tokens read", "of them shared", "tokens written", f"price{_in(planned)}")
    table((*head, *left), rows)
    click.echo(paid_and_left(planned))
    statements = ""
    if planned.statements:
        each = f"{planned.statements / planned.candidates:.1f} an answer"
        statements = f"a statement for each sentence ({planned.statements:,}, {each}); "
    click.echo(f"assumed: {statements}every reply is readable at once")
    click.echo("of them shared: tokens at the beginning of an earlier prompt, which a prefix cache saves")
    click.echo(f"to be embedded: {planned.texts_to_embed:,} texts, not priced")


def _show_upper_bound(planned: Plan) -> None:
    from lrf.cli.output import table

    click.echo("\nat most:" if planned.bound_holds else "\nat most (an estimate, see below):")
    rows = [
        (name, *(f"{n:,}" for n in (e.bound_calls, e.bound_prompt_tokens, e.bound_reply_tokens)), _price(e.bound_price))
        for name, e in (*planned.dimensions.items(), ("total", planned.total()))
    ]
    table(("dimension", "calls", "tokens read", "tokens written", f"price{_in(planned)}"), rows)
    click.echo(
        "that is if every question is asked five times (a judge that decides is asked once), every reply is as long as "
        "it may be, and every byte of a prompt is a token"
    )
    for name, statements in sorted(planned.max_statements.items()):
        click.echo(f"{name}: at most {statements:,} statements an answer")


def _caveats(planned: Plan) -> Iterator[str]:
    """What the figures rest on."""
    from lrf.cli.output import clean
    from lrf.http.settings import NO_KEY
    from lrf.planning.sampling import BYTES_A_TOKEN, CANDIDATE_TOKENS

    if planned.to_sample:
        what, most = ("written", "answer_tokens") if planned.written_by else ("to be sampled", "max_tokens")
        yield (
            f"{what}: answers of {CANDIDATE_TOKENS} tokens are expected, and at most `{most}` of {BYTES_A_TOKEN} bytes "
            "each; the upper bound of scoring them is an estimate"
        )
    if planned.written_by:
        yield "each visit to a prompt is counted in full, although notes on its document are paid for once"
    if planned.calibration_samples:
        yield f"the calibration set's {planned.calibration_samples:,} samples, scored twice, are in these figures"
    if planned.priced_samples < planned.samples:
        some = (
            f" ({planned.bound_samples:,} for the upper bound)"
            if planned.bound_samples < planned.priced_samples
            else ""
        )
        yield (
            f"estimated from {planned.priced_samples:,} of {planned.samples:,} samples{some}; "
            f"--samples {planned.samples} counts all of them, so that the upper bound holds"
        )
    for block, variable in planned.missing_keys.items():
        yield clean(f"`lrf run` will not begin: {block}: {NO_KEY.format(variable)}")
    for name in planned.assumed_statements:
        yield clean(f"{name} doesn't say how many statements it judges: that number is assumed")
    for name in planned.unlisted_retrievers:
        yield clean(
            f"the retriever {name} doesn't say how long its evidence is: whole documents are planned for every query"
        )


def _prices(planned: Plan) -> Iterator[str]:
    from lrf.cli.output import clean
    from lrf.config.prices import SAMPLING

    if planned.currency:
        batches = f"; the batch discount of {', '.join(planned.batches)} is in them" if planned.batches else ""
        yield clean(f"prices of {planned.prices}, with those for cached input{batches}")
    for name, model in planned.unpriced.items():
        component = "sampler" if name == SAMPLING else f"judge {name}"
        yield clean(f"no price for the {component} ({model}); `prices:` gives one")


def _budget(planned: Plan, budget: BudgetSettings) -> Iterator[str]:
    """How far each ceiling goes: with all calls, since a budget counts what earlier sittings paid."""
    total = planned.total()
    ceilings: tuple[tuple[str, float | None, float | None, float | None], ...] = (
        ("calls", budget.calls, total.calls, total.bound_calls),
        ("tokens", budget.tokens, total.prompt_tokens + total.reply_tokens,
         total.bound_prompt_tokens + total.bound_reply_tokens),
        (planned.currency or "money", budget.money, total.price, total.bound_price),
    )  # fmt: skip
    for unit, limit, expected, bound in ceilings:
        if limit is not None and expected is not None and bound is not None:
            verdict = (
                "less than is expected" if limit < expected else "less than the most" if limit < bound else "enough"
            )
            yield f"budget: {limit:,} {unit}: {verdict}"


def _in(planned: Plan) -> str:
    return f", {planned.currency}" if planned.currency else ""


def _price(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.2f}" if amount >= 10 else f"{amount:.4g}"


def _show_training(launch: Mapping[str, Any]) -> None:
    from lrf.cli.output import clean

    processes = f"{launch['processes']:,} processes" if launch["processes"] > 1 else "one process"
    where = f" on {launch['machines']:,} machines" if launch["machines"] > 1 else ""
    batch = ""
    if launch["global_batch"]:
        split = launch["sequence_parallel"]
        share = f"; each sequence is split over {split} processes" if split > 1 else ""
        batch = (
            f"; a step takes {launch['global_batch']:,} sequences = {launch['data_parallel']:,} data-parallel × "
            f"{launch['micro_batch']:,} micro-batch × {launch['accumulation']:,} accumulated{share}"
        )
    click.echo(f"training: {launch['trainer']}, {processes}{where} ({launch['launcher']}){batch}")
    memory = launch["memory"] or {}
    if "gib" in memory:
        for line in _memory(memory):
            click.echo(line)
    elif memory:
        click.echo(clean(f"memory of each GPU: unknown; {memory['unknown']}"))


def _memory(memory: Mapping[str, Any]) -> Iterator[str]:
    parts = ", ".join(f"{name.replace('_', ' ')} {gib:,}" for name, gib in memory["gib"].items() if gib)
    yield (
        f"memory of each GPU, estimated: {memory['gib_together']:,} GiB ({parts}), for a longest sample of "
        f"{memory['longest']:,} tokens; leave 10% more"
    )
    if not memory["fits"]:
        change = ", ".join(f"{name}: {str(value).lower()}" for name, value in (memory["change"] or {}).items())
        least = (
            f"no setting helps enough ({memory['gib_then']:,} GiB at least): more GPUs, lora or a smaller max_tokens do"
        )
        then = f"it would ({memory['gib_then']:,} GiB) with {change}" if change else least
        gpu = f"{memory['gpu_gb']:,} GB ({memory['gpu_gb'] * 1e9 / 2**30:.1f} GiB)"
        yield f"that doesn't fit into the {gpu} of `gpu.memory_gb`; {then}"
    if memory["longest"] > memory["window"] > 0:
        yield f"the model's window is {memory['window']:,} tokens, less than max_tokens ({memory['longest']:,})"
    steps = f"{memory['hours']:,} hours for {memory['steps']:,} steps, " if memory["hours"] else ""
    yield (
        f"time, estimated: {steps}{memory['hours_a_thousand']:,} hours for a thousand samples, if each were as long as "
        "the longest; `gpu` says for which GPUs"
    )
