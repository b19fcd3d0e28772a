"""``lrf export``: a run's pairs, rewards or prompts in the form of another tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic_core import from_json

from lrf.errors import RunError
from lrf_formats.pair_formats import PAIR_FORMATS, LeftOutError, llama_factory_info
from lrf_formats.sample_formats import SAMPLE_FORMATS
from lrf_formats.writing import Output, output

FORMATS = (*PAIR_FORMATS, *SAMPLE_FORMATS)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="What the file is for.")
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="The file; left out: RUN/exports/FORMAT.jsonl (verl: .parquet).",
)
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
              help="Where relative paths of the run's data start, for a run from another machine.")  # fmt: skip
def export(run: Path, format_: str, path: Path | None, folder: Path | None) -> int:
    """Write what RUN, such as runs/my-pipeline, has made, for another tool.

    Of preference pairs: trl, openrlhf, ms_swift, llama_factory (with a dataset_info.json beside it), axolotl, nemo_rl,
    and kto (two rows each). Of samples and their rewards: rewards (a table, a row for each candidate), ranked (lists,
    the best answer first), inspect (precomputed scores), prompts (to sample from while training on `lrf serve`), verl
    (the same as Parquet). What a format has no place for is listed beside the file.
    """
    path = path or run / "exports" / f"{format_}.{'parquet' if format_ == 'verl' else 'jsonl'}"
    with output(path) as out:
        taken = _pairs(run, format_, out) if format_ in PAIR_FORMATS else _samples(run, format_, folder, out)
    if format_ == "llama_factory":
        info = path.parent / "dataset_info.json"
        info.write_text(json.dumps(llama_factory_info(path.name), indent=2) + "\n", encoding="utf-8")
    listed = f"; {out.left_out} left out: {path.name}.left_out.jsonl says why" if out.left_out else ""
    click.echo(f"{path}: {out.rows} rows of {taken}{listed}")
    return 0


def _pairs(run: Path, format_: str, out: Output) -> str:
    """Write the pairs; returns how many there were."""
    file, number, made = run / "pairs.jsonl", 0, PAIR_FORMATS[format_]
    if not file.is_file():
        raise RunError(f"{file} is not there; expected the directory of a run that has made pairs")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            pair = _pair(line, file, number)
            try:
                for row in made(pair, run.name):
                    out.add(row)
            except LeftOutError as error:
                out.leave_out(str(pair.get("sample_id")), str(error))
    return f"{number} pairs"


def _pair(line: bytes, file: Path, number: int) -> Mapping[str, Any]:
    """A row of the run's own file."""
    try:
        pair = from_json(line, allow_inf_nan=False)
    except ValueError:
        pair = None
    if not isinstance(pair, dict) or "chosen" not in pair:
        raise RunError(f"{file}:{number}: no pair; `lrf run` makes the file again")
    return pair


def _samples(run: Path, format_: str, folder: Path | None, out: Output) -> str:
    """Write the rows of the samples; returns how many samples there were."""
    import lrf
    from lrf_formats.sample_formats import made

    loaded, number = lrf.load_run(run, folder=folder), 0
    if loaded.without_texts is not None:
        raise RunError(f"{run}: the texts are not there: {loaded.without_texts}; --folder says where the data is")
    for number, sample in enumerate(made(loaded, format_), start=1):  # noqa: B007 (it is the count)
        for row in sample.rows:
            out.add(row)
        for what, why in sample.left_out:
            out.leave_out(what, why)
    return f"{number} samples"
