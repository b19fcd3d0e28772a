"""``lrf show``: the ranked candidates of a run, and what cost each of them points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrf.errors import RunError

if TYPE_CHECKING:
    from lrf.stages.outcome.joined import ScoredCandidate, ScoredSample
    from lrf.stages.outcome.loading import ScoredRun
    from lrf.types import JSON

SAMPLES_SHOWN = 20
IDS_COMPARED = 1000
"""Ids that an unknown one is compared with."""


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("sample", required=False)
@click.argument("candidate", required=False)
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Where relative paths of the run's data start, if it was copied from elsewhere.")  # fmt: skip
@click.option("--all", "every", is_flag=True, help=f"Show every sample, not the first {SAMPLES_SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a sample.")
def show(run: Path, sample: str | None, candidate: str | None, folder: Path | None, every: bool, as_json: bool) -> None:
    """Show the candidates of RUN (a directory such as runs/my-pipeline), ranked, and what cost each of them points.

    With SAMPLE (its id): the candidates' ratings, and for each what cost it points: statements that aren't supported,
    beside the words of the document, and the judge's analyses. With CANDIDATE (its id) too: that one in full.
    """
    from lrf.stages.outcome.loading import load_run

    loaded = load_run(run, folder=folder)
    samples = [_find(loaded, sample)] if sample is not None else loaded
    shown = 0
    for one in samples:
        shown += 1
        if as_json:
            click.echo(_json(one, candidate))
        elif sample is not None:
            from lrf.cli.reasons_shown import show_sample

            show_sample(one, [_pick(one, candidate)] if candidate is not None else one.candidates, full=bool(candidate))
        elif shown > SAMPLES_SHOWN and not every:
            click.echo(
                f"\nThe first {SAMPLES_SHOWN} samples. --all shows every one; `lrf show RUN SAMPLE` one in full."
            )
            break
        else:
            overview(one)
    if loaded.without_texts is not None:
        click.echo(f"texts are missing, since the run's data can't be read: {loaded.without_texts}", err=True)
    if sample is None and not shown:
        click.echo("the run has no candidates")


def _json(sample: ScoredSample, candidate: str | None) -> str:
    from lrf.stages.outcome.facts import candidate_facts, sample_facts, with_words
    from lrf.store.files import dump

    facts: JSON = sample_facts(sample) if candidate is None else candidate_facts(sample, _pick(sample, candidate))
    return dump(with_words(sample, facts))


def _find(run: ScoredRun, sample_id: str) -> ScoredSample:
    from lrf.plugin.suggest import did_you_mean

    ids: list[str] = []
    for sample in run:
        if sample.id == sample_id:
            return sample
        ids += [sample.id] if len(ids) < IDS_COMPARED else []
    raise RunError(f"{run.path} has no sample {sample_id!r}{did_you_mean(sample_id, ids)}; `lrf show RUN` lists them")


def _pick(sample: ScoredSample, candidate_id: str) -> ScoredCandidate:
    try:
        return sample.candidate(candidate_id)
    except KeyError:
        known = ", ".join(repr(c.id) for c in sample.candidates)
        raise RunError(f"sample {sample.id!r} has no candidate {candidate_id!r}; its candidates: {known}") from None


def overview(sample: ScoredSample) -> None:
    """Print the question and a table of the candidates, ranked."""
    from lrf.cli.output import clean, table
    from lrf.text.excerpt import excerpt

    click.echo(f"\n{clean(sample.id)}  {clean(excerpt(sample.sample.query))}")
    names = list(dict.fromkeys(name for c in sample.candidates for name in c.reward.ratings))
    table(("rank", "candidate", "reward", *names, "unscored"), [list(_row(c, names)) for c in sample.candidates])


def _row(candidate: ScoredCandidate, names: list[str]) -> Iterator[str]:
    reward = candidate.reward
    yield "-" if candidate.rank is None else str(candidate.rank)
    yield candidate.id
    yield number(reward.reward)
    for name in names:
        yield number(reward.ratings.get(name))
    yield f"{reward.unscored.dimension}: {reward.unscored.reason}" if reward.unscored else ""


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
