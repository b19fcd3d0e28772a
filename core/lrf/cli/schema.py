"""``lrf schema``: JSON Schema of the pipeline file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lrf.cli.output import show_json
from lrf.errors import ConfigError
from lrf.plugin.catalog import load_catalog


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def schema(output: Path | None) -> None:
    """Write the JSON Schema of the pipeline file, made of the components that are installed.

    An editor with a YAML language server completes and checks a pipeline that begins with
    "# yaml-language-server: $schema=pipeline.schema.json".
    """
    from lrf.config import pipeline_schema

    made = pipeline_schema(load_catalog())
    if output is None:
        show_json(made)
        return
    try:
        output.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: can't be written: {error.strerror}") from None
