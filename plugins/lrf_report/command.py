"""``lrf report``: what a run made, for people who would rather look than read JSON Lines."""

from __future__ import annotations

from pathlib import Path

import click

import lrf
from lrf.errors import ConfigError
from lrf_report.audit import found_audit, read_audit
from lrf_report.html import write_pages
from lrf_report.plain import write_json, write_markdown

WRITERS = {".html": write_pages, ".htm": write_pages, ".md": write_markdown, ".json": write_json}

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .html, .md or .json, by its ending.",
)
@click.option("--against", type=_FOLDER, help="Another run, to compare with: what changed, and what moved most.")
@click.option(
    "--audit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `lrf audit PIPELINE --json` printed about the run's judge. Left out: the audit beside RUN, if any.",
)
@click.option(
    "--data",
    "folder",
    type=_FOLDER,
    help="Where relative paths of the run's data start, if it was copied from elsewhere.",
)
def report(run: Path, output: Path, against: Path | None, audit: Path | None, folder: Path | None) -> None:
    """Write a report of RUN (a directory such as runs/my-pipeline).

    An HTML file needs no network and nothing beside it: open it from disk, or send it. It has the run's figures and
    alarms, each sample's answers side by side with the reasons of their ratings and the evidence in the document, and
    the training. A run too large for one file becomes a page with the figures and a folder of pages with the samples,
    which is named as the file is. Markdown and JSON have the same facts.
    """
    write = WRITERS.get(output.suffix.lower())
    if write is None:
        raise ConfigError(f"--output {output}: expected a file that ends in {', '.join(WRITERS)}")
    loaded = lrf.load_run(run, folder=folder)
    found = found_audit(loaded) if audit is None else read_audit(audit)
    comparison = None if against is None else loaded.compared_with(lrf.load_run(against, folder=folder))
    files = write(loaded, {"comparison": comparison, "audit": found}, output)
    if loaded.without_texts is not None:
        click.echo(f"texts are missing, since the run's data can't be read: {loaded.without_texts}", err=True)
    size = sum(file.stat().st_size for file in files)
    click.echo(f"{output}{f' and {len(files) - 1} pages beside it' if len(files) > 1 else ''}: {size / 1e6:.1f} MB")
