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
    "--skip-unknown", is_flag=True, help="Skip labels of candidates that the run doesn't have, and count them."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def agree(labels: Path, run: Path, skip_unknown: bool, seed: int, as_json: bool) -> None:
    """Measure how well the rewards of a run agree with LABELS, compared with "longer wins" and "first wins".

    LABELS is a CSV file with preferences (columns sample_id, preferred, other: candidates' ids) or with ratings
    (sample_id, candidate_id, rating: any scale, more is better). Several people may label the same candidates.

    Accuracy is the share of pairs whose preferred candidate has the higher reward; a tie counts half. Intervals are
    95% bootstrap intervals over samples. They are too narrow below some 20 samples, and are left out below 5 samples or
    when all samples are alike.
    """
    from lrf.agreement.report import agreement
    from lrf.cli.output import show_json

    result = agreement(labels, run, seed=seed, skip_unknown=skip_unknown)
    if as_json:
        show_json(result.as_json())
    else:
        _show(result)


def _show(result: Agreement) -> None:
    from lrf.cli.output import clean, table

    skipped = f", {result.skipped:,} rows skipped: not in the run" if result.skipped else ""
    click.echo(f"{result.labels:,} {result.kind} on {result.samples:,} samples{skipped}")
    rows = [
        (name, _share(a.accuracy), f"{a.pairs:,}", f"{a.ties:,}", f"{a.unscored:,}")
        for name, a in result.accuracies.items()
    ]
    table(("score", "accuracy [95%]", "pairs", "ties", "unscored"), rows)
    if result.alike:
        click.echo(f"{result.alike:,} pairs that people rated alike were left out")
    if result.correlations:
        click.echo("")
        table(
            ("score", "Spearman [95%]", "Kendall [95%]", "samples", "over all", "candidates", "unscored"),
            [
                (name, _share(c.spearman), _share(c.kendall), f"{c.samples:,}",
                 "-" if c.overall is None else f"{c.overall:.3f}", f"{c.candidates:,}", f"{c.unscored:,}")
                for name, c in result.correlations.items()
            ],
        )  # fmt: skip
        click.echo("Spearman and Kendall: within each sample, averaged over those where ratings and scores vary")
    if result.without_lengths is not None:
        why = clean(result.without_lengths, lines=True)
        click.echo(f"\"longer wins\" is missing, since the run's data can't be read: {why}")


def _share(share: Share) -> str:
    if share.value is None:
        return "-"
    if share.low is None or share.high is None:
        return f"{share.value:.3f}"
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
