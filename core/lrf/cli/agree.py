"""``lrf agree``: how well a run's rewards agree with people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lrf.agreement.measures import Share
    from lrf.agreement.report import Agreement


@click.command()
@click.argument("labels", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--run", "run", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="The run's directory, such as runs/my-pipeline.")  # fmt: skip
@click.option(
    "--skip-unknown", is_flag=True, help="Leave out and count labels of candidates that the run doesn't have."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def agree(labels: Path, run: Path, skip_unknown: bool, seed: int, as_json: bool) -> None:
    """Tell how well the rewards of a run agree with LABELS, beside "longer wins" and "first wins".

    LABELS is a CSV file with preferences (columns sample_id, preferred, other: candidates' ids) or with ratings
    (sample_id, candidate_id, rating: any scale, more is better). Several people may judge the same.

    Accuracy is the share of pairs whose preferred candidate has the higher reward; a tie counts half. Intervals are
    95% bootstrap intervals over samples: too narrow below some 20 samples, and left out below 5 or where all are alike.
    """
    from lrf.agreement.report import agreement
    from lrf.cli.output import show_json

    found = agreement(labels, run, seed=seed, skip_unknown=skip_unknown)
    if as_json:
        show_json(found.as_json())
    else:
        _show(found)


def _show(found: Agreement) -> None:
    from lrf.cli.output import clean, table

    skipped = f", {found.skipped:,} rows left out: not in the run" if found.skipped else ""
    click.echo(f"{found.labels:,} {found.kind} on {found.samples:,} samples{skipped}")
    rows = [
        (name, _share(a.accuracy), f"{a.pairs:,}", f"{a.ties:,}", f"{a.unscored:,}")
        for name, a in found.accuracies.items()
    ]
    table(("score", "accuracy [95%]", "pairs", "ties", "unscored"), rows)
    if found.alike:
        click.echo(f"{found.alike:,} pairs that people rated alike are left out")
    if found.correlations:
        click.echo("")
        table(
            ("score", "Spearman [95%]", "Kendall [95%]", "samples", "over all", "candidates", "unscored"),
            [
                (name, _share(c.spearman), _share(c.kendall), f"{c.samples:,}",
                 "-" if c.overall is None else f"{c.overall:.3f}", f"{c.candidates:,}", f"{c.unscored:,}")
                for name, c in found.correlations.items()
            ],
        )  # fmt: skip
        click.echo("Spearman and Kendall: within each sample, averaged over those where people and score vary")
    if found.without_lengths is not None:
        click.echo(
            clean(f"no \"longer wins\": the run's data can't be read again: {found.without_lengths}", lines=True)
        )


def _share(share: Share) -> str:
    if share.value is None:
        return "-"
    if share.low is None or share.high is None:
        return f"{share.value:.3f}"
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
