"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

runs = click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
                    help="The folder of run directories; a run's own is named by the pipeline's `name:`.")  # fmt: skip
dimensions = click.option("--dimension", "dimensions", multiple=True, metavar="NAME",
                          help="Only this dimension of the pipeline; repeat for more.")  # fmt: skip
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of all random choices.")
budget = click.option("--budget", help="The most that may be paid: money=N, calls=N or tokens=N.")
only_plan = click.option("--plan", "only_plan", is_flag=True, help="Show what it will ask and cost, and ask nothing.")
markdown = click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path),
                        help="Write the tables to this file, too.")  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
