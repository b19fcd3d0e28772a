"""``lrf bench LABELS --run RUN``: how well a run's rewards agree with people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrf.errors import ConfigError

if TYPE_CHECKING:
    from lrf.evaluation.measures import Share
    from lrf.evaluation.report import Agreement


def show_agreement(labels: Path, run: Path, *, seed: int, skip_unknown: bool, as_json: bool) -> int:
    """Show how well the rewards of a run agree with people's labels.

    Accuracy is the share of pairs whose preferred candidate has the higher reward; a tie counts half. Intervals are
    95% bootstrap intervals over samples, left out below 5 samples or when all samples are alike.
    """
    from lrf.cli.output import show_json
    from lrf.evaluation.report import agreement

    if not labels.is_file():
        raise ConfigError(f"there is no file {labels}; with --run expected a file of labels")
    result = agreement(labels, run, seed=seed, skip_unknown=skip_unknown)
    if as_json:
        show_json(result.as_json())
    else:
        _show(result)
    return 0


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
