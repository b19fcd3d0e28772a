"""``lrf schema``: the JSON Schema of the pipeline file."""

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
    """Write the JSON Schema of the pipeline file, with the settings of all installed components.

    An editor with a YAML language server then completes and checks a pipeline that begins with
    "# yaml-language-server: $schema=pipeline.schema.json".
    """
    from lrf.config import pipeline_schema

    json_schema = pipeline_schema(load_catalog())
    if output is None:
        show_json(json_schema)
        return
    try:
        output.write_text(json.dumps(json_schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: can't be written: {error.strerror}") from None
