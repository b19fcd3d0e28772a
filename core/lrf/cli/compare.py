"""``lrf compare``: what differs between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrf.cli import common_options

if TYPE_CHECKING:
    from lrf.types import JSON

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SETTINGS_SHOWN, MOVED_SHOWN = 30, 10
COSTS = ("calls", "tokens", "spent", "seconds")


@click.command()
@click.argument("before", type=_FOLDER)
@click.argument("now", type=_FOLDER)
@common_options.as_json
def compare(before: Path, now: Path, as_json: bool) -> None:
    """Show what differs between the runs BEFORE and NOW: settings, rewards, ranks, pairs and cost.

    Samples and candidates are matched by their ids. `lrf report NOW --against BEFORE` has the same on a page.
    """
    from lrf.stages.outcome.loading import load_run

    differences = load_run(now).compared_with(load_run(before))
    if as_json:
        from lrf.cli.output import show_json

        show_json(differences)
    else:
        _show(differences)


def _show(found: Mapping[str, JSON]) -> None:
    from lrf.cli.output import clean, table
    from lrf.cli.show import number

    for line in found["settings"][:SETTINGS_SHOWN] or ["the settings are the same"]:
        click.echo(clean(line))
    if len(found["settings"]) > SETTINGS_SHOWN:
        click.echo(f"{len(found['settings']) - SETTINGS_SHOWN} more changed settings")
    click.echo(
        f"\n{found['samples']:,} samples and {found['candidates']:,} candidates in both; samples before only: "
        f"{found['only_in_other']:,}, now only: {found['only_in_run']:,}; candidates that became scored: "
        f"{found['became_scored']:,}, unscored: {found['became_unscored']:,}"
    )
    table(
        ("score", "mean change", "mean absolute", "candidates"),
        [
            (name, f"{d['mean']:+.2f}", number(d["mean_absolute"]), f"{d['candidates']:,}")
            for name, d in found["differences"].items()
        ],
    )
    same = "-" if found["same_best"] is None else f"{found['same_best']:.0%}"
    click.echo(
        f"rank correlation within samples, on average: {number(found['rank_correlation'])}; the same best: {same}"
    )
    pairs, cost = found["pairs"], found["cost"]
    click.echo(
        f"pairs: {pairs['other']:,} before, {pairs['run']:,} now, {pairs['same']:,} the same, "
        f"{pairs['turned_round']:,} turned round"
    )
    table(
        ("", "before", "now"),
        [(name, _amount(cost["other"][name]), _amount(cost["run"][name])) for name in COSTS],
    )
    if found["moved"]:
        click.echo("\nmoved most:")
        table(
            ("sample", "candidate", "before", "now"),
            [(m["id"], m["candidate"], number(m["before"]), number(m["reward"])) for m in found["moved"][:MOVED_SHOWN]],
        )


def _amount(value: JSON) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{amount:,.6g} {currency}" for currency, amount in value.items()) or "-"
    return "-" if value is None else f"{value:,}"
