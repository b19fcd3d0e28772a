"""``lrf init``: write a pipeline to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from lrf.errors import ConfigError


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="pipeline.yaml")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(path: Path, force: bool) -> None:
    """Write a commented pipeline to start from to PATH (pipeline.yaml)."""
    text = (resources.files("lrf.cli") / "starter.yaml").read_text(encoding="utf-8")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: the file exists; --force replaces it") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from None
    click.echo(f"Wrote {path}. Set the data and the judge in it; then: lrf plan {path}")
